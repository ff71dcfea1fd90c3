"""CKA of all layer pairs with its permutation null, beside the public implementations.

    python -m benchmarks similarity

Every implementation gets the same float32 activations, 31 + 31 layers of 2,000 rows × 576, and computes the
same debiased CKA of all 961 pairs under the same permutations of rows. Peers cost the same for every
permutation, so a few are timed and multiplied; ours yields all of them at once and is timed whole, Gram
matrices included. Rounds are interleaved; figures are medians. Beside it, the memory of the cohesion of 50,000 rows ×
2,048 from a store on disk, against 2 GB.
"""

import importlib.metadata
import resource
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np
import torch

from benchmarks import _cohesion_memory
from probing.similarity.cka import debiased_matrix
from probing.similarity.mantel import CyclicDesign, cyclic_design, permuted_products

COHESION = {"rows": 50_000, "width": 2_048, "leaves": 1_000, "categories": 40}
QUICK_COHESION = {"rows": 2_000, "width": 64, "leaves": 100, "categories": 10}
FULL = {"layers": 31, "rows": 2_000, "width": 576, "permutations": 1_000, "rounds": 5}
QUICK = {"layers": 4, "rows": 200, "width": 32, "permutations": 100, "rounds": 2}
_SAME = 2e-4  # peers compute in single precision, over sums of rows² products


def run(quick: bool = False) -> dict[str, Any]:
    """The benchmark record: ratios (peer seconds / our seconds), seconds, sizes.

    Raises:
        RuntimeError: a peer's values differ from ours under the same permutations.
    """
    sizes = QUICK if quick else FULL
    left, right = (_layers(sizes, seed) for seed in (0, 1))
    design = cyclic_design(sizes["rows"], sizes["permutations"], seed=0)
    peers = _peers(left, right, design)
    seconds: dict[str, list[float]] = {name: [] for name in ("ours", *peers)}
    values: dict[str, np.ndarray] = {}
    for _ in range(sizes["rounds"]):
        values["ours"] = _timed(seconds["ours"], lambda: _ours(left, right, design))
        for name, (once, share) in peers.items():
            values[name] = _timed(seconds[name], once)
            seconds[name][-1] *= sizes["permutations"] * share
    _check_same(values, design)
    middle = {name: median(found) for name, found in seconds.items()}
    best = min((name for name in peers), key=lambda name: middle[name])
    ratios = {f"over_{name}": middle[name] / middle["ours"] for name in peers}
    wide = QUICK_COHESION if quick else COHESION
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    cohesion = _cohesion_memory.measure(**wide)
    return {
        "name": "similarity",
        "ratios": {
            "cka_permutations_speedup_over_best_public": middle[best] / middle["ours"],
            **ratios,
            "cohesion_peak_of_2_gb": cohesion["peak_bytes"] / 2e9,
        },
        "seconds": middle,
        "sizes": {
            **sizes,
            "permutations_of_ours": len(design) - 1,
            "threads": torch.get_num_threads(),
            "best_public": best,
            "gram_bytes": 2 * sizes["layers"] * sizes["rows"] ** 2 * 8,
            "peak_resident_bytes": peak,
            **{f"cohesion_{name}": value for name, value in (wide | cohesion).items()},
            **_versions(),
        },
    }


def _layers(sizes: dict[str, int], seed: int) -> list[np.ndarray]:
    """Layers that share a signal which grows with depth."""
    rng = np.random.default_rng(seed)
    signal = np.random.default_rng(99).standard_normal((sizes["rows"], 8))
    shape = sizes["rows"], sizes["width"]
    return [
        (rng.standard_normal(shape) + 0.1 * layer * signal @ rng.standard_normal((8, shape[1]))).astype(
            np.float32
        )
        for layer in range(sizes["layers"])
    ]


def _ours(left: list[np.ndarray], right: list[np.ndarray], design: CyclicDesign) -> np.ndarray:
    """CKA [permutations, layers, layers], double precision."""
    first, second = (np.stack([debiased_matrix(x) for x in side]) for side in (left, right))
    scale = [np.sqrt(np.einsum("lab,lab->l", side, side)) for side in (first, second)]
    return permuted_products(first, second, design) / (scale[0][:, None] * scale[1][None, :])


def _peers(
    left: list[np.ndarray], right: list[np.ndarray], design: CyclicDesign
) -> dict[str, tuple[Callable[[], np.ndarray], float]]:
    """For each peer: a call that gives CKA under permutation 1, and how many such calls make one permutation."""
    import calibrated_similarity
    import cka
    from cka.hsic import hsic, hsic_cross

    images = torch.tensor(design.permutation(1))
    x, y = (torch.tensor(np.stack(side)) for side in (left, right))
    grams_x, grams_y = (torch.bmm(side, side.transpose(1, 2)) for side in (x, y))
    _, own_x, own_y = hsic(grams_x, grams_y)

    def pytorch_cka() -> np.ndarray:
        return cka.cka_from_features(x, y[:, images]).numpy()

    def pytorch_cka_grams_kept() -> np.ndarray:
        cross = hsic_cross(grams_x, grams_y[:, images][:, :, images])
        return (cross / torch.sqrt(own_x[:, None] * own_y[None])).numpy()

    def pair(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return cka.cka_from_features(a, b)[0, 0]

    def calibrated() -> np.ndarray:
        one = design.permutation(1)
        seen: list[float] = []

        def similarity(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
            seen.append(float(pair(a, b)))
            return torch.tensor(seen[-1])

        calibrated_similarity.calibrate_layers(
            *([x[0]], [y[0]], similarity), K=1, perm_fn=lambda n, device: torch.tensor(one)
        )
        return np.array([[seen[1]]])

    return {
        "pytorch_cka": (pytorch_cka, 1.0),
        "pytorch_cka_grams_kept": (pytorch_cka_grams_kept, 1.0),
        # One layer pair, observed and once permuted: two of the layers² values of one permutation.
        "calibrated_similarity": (calibrated, len(left) * len(right) / 2),
    }


def _timed(into: list[float], call: Callable[[], np.ndarray]) -> np.ndarray:
    start = time.perf_counter()
    values = call()
    into.append(time.perf_counter() - start)
    return values


def _check_same(values: dict[str, np.ndarray], design: CyclicDesign) -> None:
    ours = values["ours"]
    assert ours.shape[0] == len(design)
    for name, found in values.items():
        if name != "ours":
            expected = np.clip(ours[1, : found.shape[0], : found.shape[1]], 0, None)
            difference = float(np.abs(np.clip(found, 0, None) - expected).max())
            if difference > _SAME:
                raise RuntimeError(f"{name} differs from ours by {difference:.1e} under the same permutation")


def _versions() -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in ("pytorch-cka", "calibrated-similarity")}
