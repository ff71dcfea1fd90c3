"""Runs: the settings that a model is made from, and the directory that holds everything about it."""
