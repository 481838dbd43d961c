"""Checkpoints: safe loading, validation, and the check that the network's code is unchanged."""
