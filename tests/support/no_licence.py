"""Raises when it is imported, as a package without its licence does."""

raise RuntimeError("no licence")
