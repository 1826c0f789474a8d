"""The GPU's memory, streams, events and graphs: one protocol, and the two libraries that keep it."""
