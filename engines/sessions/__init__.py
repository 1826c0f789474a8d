"""Sessions: models run in ONNX Runtime, engines in TensorRT."""
