"""How results look: as tables and sentences on a terminal, and as JSON. A module each kind of result."""
