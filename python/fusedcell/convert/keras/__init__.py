"""Keras models and layers, read without Keras."""
