"""Real peers of other implementations, both ways; see peers/CONTRACT.md."""
