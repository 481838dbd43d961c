"""Worker processes that share the stacks of a fit: strategy, launcher, communication and cluster environments."""
