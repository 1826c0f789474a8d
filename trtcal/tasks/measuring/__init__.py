"""How well models find what is in images: average precision, mIoU, and what of a difference is chance."""
