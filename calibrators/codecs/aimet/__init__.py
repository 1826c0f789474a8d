"""AIMET's encodings, in each of their layouts."""
