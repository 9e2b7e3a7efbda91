"""ONNX models and layers, read and written."""
