"""What is known to be in images: annotations read from files, and brought to the images' own pixels."""
