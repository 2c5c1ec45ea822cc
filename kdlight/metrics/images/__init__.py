"""Metrics of generated images and points."""
