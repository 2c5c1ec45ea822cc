"""Latent pipelines of diffusers, part by part."""
