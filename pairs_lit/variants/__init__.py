"""Training of several configurations side by side in the same stacks."""
