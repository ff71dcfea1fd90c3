"""Linear probes fitted for many targets at once, on arrays of any library, with splits and controls."""
