"""Where a quantized model departs from the float one, layer by layer, and which tensors look wrong."""
