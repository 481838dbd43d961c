"""Stacked layers and the fused, compiled operations that they use."""
