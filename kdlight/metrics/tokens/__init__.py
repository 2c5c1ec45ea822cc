"""Metrics of codes: how they are used, and what they tell."""
