"""Sections of a report from what was computed, as plain data."""
