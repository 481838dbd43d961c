"""Training and evaluation of all rounds: module, losses, metrics, optimizers, callbacks and logging."""
