"""TensorRT plans: built on the device that runs them, by a child process. Needs neither torch nor onnx."""
