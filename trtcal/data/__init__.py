"""Images and arrays as batches: files, preprocessing, labels, and which samples are taken."""
