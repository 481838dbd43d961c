"""Worker processes: strategy, launcher, communication and clusters."""
