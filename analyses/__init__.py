"""Questions put to runs: each module computes a table, draws figures from it, and is runnable."""
