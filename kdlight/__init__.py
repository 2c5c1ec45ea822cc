"""kdlight: knowledge distillation with PyTorch Lightning."""

__version__ = "0.2.0"
