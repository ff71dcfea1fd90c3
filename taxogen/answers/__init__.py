"""Answers of trained models: read-outs, their scores on disk, baselines and thresholds."""
