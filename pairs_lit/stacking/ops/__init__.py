"""Stacked layers and compiled kernels."""
