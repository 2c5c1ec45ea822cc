"""Discriminators of audio, each a list of judges of (B, 1, T)."""
