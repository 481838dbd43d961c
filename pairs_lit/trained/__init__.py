"""Trained networks: what the rounds of a finished run are used for."""
