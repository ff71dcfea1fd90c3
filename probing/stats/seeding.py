"""Random generators that depend on a seed and on names, never on the order in which they are asked for."""

import hashlib

import numpy as np


def stream(seed: int, *names: str) -> np.random.Generator:
    """A generator of its own for each (seed, names): adding a leaf leaves the draws of the others alone."""
    text = "\0".join([str(int(seed)), *names])
    digest = hashlib.blake2b(text.encode(), digest_size=16).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest, "big")))
