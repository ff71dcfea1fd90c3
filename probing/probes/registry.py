"""PROBES: the kinds of linear probe by name; a new kind is its file and a line here."""

from typing import Protocol

import numpy as np
from jaxtyping import Float, Shaped

from probing.probes.fitted import Array, FittedProbes
from probing.probes.linear import PENALTIES, fit_ridge
from probing.probes.logistic import fit_logistic
from probing.probes.means import fit_mass_mean


class FitProbes(Protocol):
    """Anything that fits one probe per label column, choosing among penalties on whole groups of rows."""

    def __call__(
        self,
        features: Float[Array, "n d"],
        labels: Float[Array, "n t"],
        groups: Shaped[np.ndarray, " n"],
        penalties: tuple[float, ...] = PENALTIES,
        blocks: int = 1,
    ) -> FittedProbes:
        """The fitted probes; label columns may come as several `blocks` of the same targets (see `fit_ridge`)."""
        ...


PROBES: dict[str, FitProbes] = {"ridge": fit_ridge, "logistic": fit_logistic, "mass_mean": fit_mass_mean}
"""Name → function that fits that kind of probe: the choices of `--probe`, and of `RegisteredProbe` for scikit-learn."""
