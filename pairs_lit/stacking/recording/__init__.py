"""Recording what a plain module computes."""
