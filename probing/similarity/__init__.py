"""Similarity of representations: measures that name the changes they ignore, and their calibration."""

from probing.similarity.calibration import Calibration, calibrate
from probing.similarity.cca import PWCCA, SVCCA
from probing.similarity.cka import CKA, CKA_DEBIASED, CKA_RBF
from probing.similarity.measure import Measure
from probing.similarity.neighbors import CKNNA, MUTUAL_KNN, MUTUAL_KNN_COSINE
from probing.similarity.predictivity import PREDICTIVITY
from probing.similarity.procrustes import ANGULAR, PROCRUSTES
from probing.similarity.rsa import RSA_MEASURES
from probing.similarity.streamed import CKA_MINIBATCH

MEASURES: dict[str, Measure] = {
    measure.name: measure
    for measure in (
        *(CKA_DEBIASED, CKA, CKA_RBF, CKA_MINIBATCH, PROCRUSTES, ANGULAR, *RSA_MEASURES),
        *(SVCCA, PWCCA, MUTUAL_KNN, MUTUAL_KNN_COSINE, CKNNA, PREDICTIVITY),
    )
}


def measure_named(name: str) -> Measure:
    """The measure of that name.

    >>> import numpy as np
    >>> x = np.random.default_rng(0).normal(size=(20, 5))
    >>> round(measure_named("cka")(x, 3 * x + 1), 6)
    1.0

    Raises:
        KeyError: unknown name; the message lists the known ones.
    """
    if name not in MEASURES:
        raise KeyError(f"unknown measure {name!r}; known: {', '.join(MEASURES)}")
    return MEASURES[name]


__all__ = ["MEASURES", "Calibration", "Measure", "calibrate", "measure_named"]
