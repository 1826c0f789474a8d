"""TensorRT's calibration cache: its text, the side-car beside it, and whether it fits a model."""
