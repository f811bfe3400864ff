"""INT8 and float16: which layers, which ranges, which integers, and in what form each target wants them."""
