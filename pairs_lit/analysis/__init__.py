"""Finished runs, compared and shown; needs no torch."""
