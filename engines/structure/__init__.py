"""What the Q/DQ nodes of a model come to: what is quantized, and what TensorRT will not make INT8 of."""
