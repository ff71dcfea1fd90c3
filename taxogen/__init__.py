"""The world and its models: taxonomies, pictures, ablations, small vision-language models, runs."""

import os

# Read when torch is loaded. By default OpenMP's threads spin while they wait, each for all others: beside one busy
# process a step of two threads took 0.3 to 2.8 s so, 0.2 to 0.4 s when they sleep, and alone 0.18 and 0.20 s.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
