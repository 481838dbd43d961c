"""Stacking: plain modules of R rounds become one module that trains them side by side."""
