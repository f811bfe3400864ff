"""The parts of CUDA that the TensorRT runner needs: context, buffers, one stream, its events and its graph."""
