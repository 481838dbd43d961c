"""Comparison and inspection of finished runs; does not import torch."""
