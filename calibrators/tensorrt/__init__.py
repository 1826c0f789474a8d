"""The calibrators that TensorRT calls while it builds: batches in, a calibration cache out."""
