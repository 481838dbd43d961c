"""Networks: plain torch modules of one round, and stacks that train R seeded copies side by side."""
