"""Building the graph that computes R rounds from the record of one."""
