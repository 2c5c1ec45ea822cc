"""Metrics of generated samples: torchmetrics classes, state and arithmetic only."""
