"""PyTorch modules, read as layers and as whole models."""
