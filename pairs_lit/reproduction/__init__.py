"""Reproduction of the course's five reports: published results, fits, claims and pages. Needs no torch."""
