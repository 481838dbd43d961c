"""Networks: plain torch modules for one round, and the module that trains R seeded copies of them side by side."""
