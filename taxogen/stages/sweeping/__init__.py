"""Sweeps of a plan file: its runs, the stages of each, what is done and how long the rest will take."""
