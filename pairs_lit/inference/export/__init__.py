"""Export of networks to files for other tools."""
