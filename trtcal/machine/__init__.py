"""What this machine has, and what can be done with it."""
