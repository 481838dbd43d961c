"""Networks: plain torch modules for one round, and what puts R seeded copies of them side by side."""
