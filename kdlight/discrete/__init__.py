"""Discrete diffusion: masked tokens, exact draws, samplers, and languages whose truth is known."""
