"""Run folders: their layout, files and tables, which no other package depends on. Needs no torch."""
