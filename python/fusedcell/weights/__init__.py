"""Weights as they come: arrays, PyTorch's tensors, and state dictionaries in memory or in files."""
