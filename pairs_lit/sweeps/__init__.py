"""Sweeps: what varies, which values were tried, what came of them; needs no torch."""
