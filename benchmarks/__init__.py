"""Speed and memory of calibration beside the floor and ONNX Runtime's own: ``python -m benchmarks``."""
