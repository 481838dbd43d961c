"""Hyperparameter sweeps: search space, trials, shared study and report; does not import torch."""
