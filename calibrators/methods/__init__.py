"""Range methods, one file per family: pure functions from statistics to the largest magnitude to represent."""
