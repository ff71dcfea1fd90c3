"""Instruments: hooks, activation store, probes, similarity, patching and statistics for any model."""
