"""Differences between operating systems, libraries and environments."""
