"""ONNX files without the onnx package: read strictly and within bounds, and checked for the runtimes that run them."""
