"""What quantization does to a model: range methods compared, errors and sensitivity layer by layer."""
