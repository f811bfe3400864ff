"""RUN: the runtime that moves an arm with an engine. No torch, no onnx."""
