"""Questions put to runs: each module computes a table, draws figures from it, and is runnable."""

import sys

import taxogen as taxogen  # before torch is loaded: it says how threads wait
from analyses import starting

starting.start(sys.argv, sys.orig_argv)
