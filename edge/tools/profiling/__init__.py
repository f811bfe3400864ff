"""`sefa-edge profile`: measures the latency of every stage of the running pipeline."""
