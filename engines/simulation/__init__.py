"""Versions of a float model in which any of its layers are quantized, and what each layer costs."""
