"""Small graph passes, one file each."""
