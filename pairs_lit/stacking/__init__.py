"""Plain modules of many rounds as one module that trains them side by side."""
