"""Exchange: runs as checkpoints of other libraries, and projectors of theirs as snapshots of runs."""
