"""Dimensions of leaf means: our own estimators, and any of scikit-dimension's by name."""

import importlib
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from probing.categories.geometry import effective_rank, participation_ratio, two_nn

Dimension = Callable[[np.ndarray], float]
DIMENSIONS: Mapping[str, Dimension] = {
    "intrinsic_dimension": two_nn,
    "effective_rank": effective_rank,
    "participation_ratio": participation_ratio,
}


def dimensions(estimators: Sequence[str] = ()) -> dict[str, Dimension]:
    """The estimators applied to every site: the usual three, and those of scikit-dimension with these names.

    Source: Bac et al. 2021, Entropy 23(10) (scikit-dimension).

    Raises:
        ModuleNotFoundError: an estimator was named and scikit-dimension is not installed.
        KeyError: scikit-dimension has no such estimator.
    """
    return dict(DIMENSIONS) | {f"intrinsic_dimension_{name}": _estimator(name) for name in estimators}


def _estimator(name: str) -> Dimension:
    try:
        known = importlib.import_module("skdim.id")
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"the dimension estimator {name} needs the package scikit-dimension: pip install 'taxoprobe[peers]'; "
            "two nearest neighbours, effective rank and participation ratio need nothing"
        ) from error
    names = sorted(found for found in vars(known) if found[0].isupper() or found == "lPCA")
    if name not in names:
        raise KeyError(f"scikit-dimension has no estimator {name!r}; it has {', '.join(names)}")
    make = getattr(known, name)

    def dimension(x: np.ndarray) -> float:
        with np.errstate(all="ignore"):  # some divide by distances of a row to itself and drop the result
            return float(make().fit(x).dimension_)

    return dimension
