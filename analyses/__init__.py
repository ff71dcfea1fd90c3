"""Questions put to runs: each module computes a table, draws figures from it, and is runnable."""

import taxogen as taxogen  # before torch is loaded: it says how threads wait
