"""What a model is for: from its raw outputs to boxes, masks, points and classes, and how well it finds them."""
