"""Costs: what a run, or every run of a plan, will take on some machines, from sizes alone."""
