"""Benchmarks: each module times one thing against a peer or a physical limit in the same run."""
