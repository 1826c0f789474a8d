"""What an engine is and really runs: its kernels, its layers' precisions and times, its side-car."""
