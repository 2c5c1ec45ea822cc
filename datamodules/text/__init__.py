"""Data sets of tokens."""
