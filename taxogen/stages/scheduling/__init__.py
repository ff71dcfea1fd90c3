"""Work as a graph of tasks: what is ready is done where there is room, on this machine or on a Ray cluster."""
