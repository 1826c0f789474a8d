"""What to quantize and how: settings by layer, name and type, and their TOML file."""
