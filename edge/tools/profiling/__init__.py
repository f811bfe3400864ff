"""`sefa-edge profile`: the latency of every stage of the running pipeline."""
