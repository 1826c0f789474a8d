"""Engines from models: what is asked for is checked, ranges are found, the engine is built and inspected."""
