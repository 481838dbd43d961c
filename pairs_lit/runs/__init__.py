"""Run folders: the one owner of their layout; needs no torch."""
