"""Models that fill in many tokens at once, and methods that make many of their calls few."""
