"""Diffusion mathematics in variance-exploding coordinates: ``x = x0 + sigma * eps``."""
