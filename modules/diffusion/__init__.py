"""Diffusion methods, one file per method."""
