"""Graphs that compute R rounds, built from the traced graph of one."""
