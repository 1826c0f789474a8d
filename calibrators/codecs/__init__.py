"""Formats of scales and ranges: each is read into one value, `encodings.Encodings`, and written from it."""
