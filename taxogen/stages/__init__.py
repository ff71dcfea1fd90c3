"""Stages of a run: prepare, train and capture, evaluate; and sweeps of many runs."""
