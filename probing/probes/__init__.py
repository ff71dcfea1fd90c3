"""Linear probes fitted for many targets at once, on arrays of any library, with splits and controls."""

from probing.probes.fitted import FittedProbes, Standardizer
from probing.probes.registry import PROBES, FitProbes

__all__ = ["PROBES", "FitProbes", "FittedProbes", "Standardizer"]
