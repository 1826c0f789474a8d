"""One backend per family of TensorRT: version differences live here and nowhere else."""
