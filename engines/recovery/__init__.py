"""Changes of weights and biases after which quantization loses less."""
