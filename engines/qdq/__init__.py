"""Q/DQ nodes: where they go, how they are written, and what those of a model say."""
