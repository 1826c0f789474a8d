"""Speed and memory of calibration, measured against the floor and against ONNX Runtime's own: ``python -m benchmarks``."""
