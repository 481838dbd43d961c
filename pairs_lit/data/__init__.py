"""Data: image sources, sampling of pairs, augmentation, and batches for stacks of rounds."""
