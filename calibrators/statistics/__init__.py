"""What one pass over the data remembers of each tensor, and the file that keeps it."""
