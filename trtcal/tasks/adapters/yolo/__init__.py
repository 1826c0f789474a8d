"""The layouts of the YOLO family."""
