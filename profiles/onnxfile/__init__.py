"""ONNX files without the onnx package: read strictly and within bounds, and judged for the runtimes that take them."""
