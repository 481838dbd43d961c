"""Tracing of plain modules: the torch calls they make, recorded as a graph."""
