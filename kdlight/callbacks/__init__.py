"""Callbacks: what runs metrics, draws samples, keeps checkpoints and writes the run's record."""
