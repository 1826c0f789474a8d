"""How fast models are: ONNX models on the CPU and engines on the GPU, side by side."""
