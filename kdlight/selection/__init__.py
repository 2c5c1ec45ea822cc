"""Choosing what is learnt from: scores of data, and which of them to keep."""
