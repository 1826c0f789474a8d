"""Recovery: steps that bring lost accuracy back, each measured on images of its own."""
