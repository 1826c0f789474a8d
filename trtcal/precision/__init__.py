"""Mixed precision: the cheapest choice of precisions that reaches a target."""
