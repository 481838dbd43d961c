"""Hyperparameter sweeps: search space, trials, shared study and report."""
