"""From raw outputs to what they say was found: a layout a file."""
