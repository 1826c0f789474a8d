"""How good and how fast models are: accuracy, distortion, times."""
