"""ONNX models: read, looked at and changed."""
