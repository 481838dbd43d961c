"""Pairs of digits: where the images come from, how pairs are drawn, how batches of a stack are made."""
