"""Configurations trained side by side in one stack."""
