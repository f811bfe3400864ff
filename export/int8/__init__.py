"""INT8 and float16: choice of layers, ranges and integers, and the form that each target needs."""
