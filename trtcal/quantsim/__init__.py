"""Simulated quantization of an ONNX model on any machine, after AIMET's workflow."""
