"""One fit of all rounds: the module, its losses and metrics, the rounds, checkpoints, tracking."""
