"""From a trained network to a static ONNX graph."""
