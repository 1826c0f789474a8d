"""From activations to ranges, and the calibrators that hand them to TensorRT."""
