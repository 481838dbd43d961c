"""Which of two handwritten digits is larger? Many seeds of one network, trained side by side.

This package imports nothing heavy; take the parts from their own modules, for example
``from pairs_lit.training.module import PairModule``.
"""

__version__ = "0.1.0"
