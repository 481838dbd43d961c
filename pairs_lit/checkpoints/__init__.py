"""Checkpoint files: atomic writes, safe loading, and the check that they match the configuration that loads them.

A checkpoint is checked in this order: ``files`` reads it without running any code; ``earlier_layout`` converts those of
earlier releases; ``match`` compares seeds, data and network; ``schema`` compares the structure of weights and optimizer
state. What the network computes is checked by ``training.code_check``, which needs the network itself.
"""
