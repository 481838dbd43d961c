"""Run folders; nothing else knows their layout. Needs no torch."""
