"""The GPU as the TensorRT runner needs it: context, buffers, one stream, its events and its graph."""
