"""What an engine, or a model with Q/DQ nodes, is made of, and what is wrong with it."""
