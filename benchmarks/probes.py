"""Probe sweeps against the loop over scikit-learn that they replace: 30 sites × 25 targets × 5 folds × 9 penalties.

One fold of one site is timed on both sides, in turn, five times; a sweep is 150 of them. The loop
standardises once a fold and then fits target by target and penalty by penalty; of its 225 fits a fold one per
penalty is timed, each round for another target. Both get the same float32 rows and all cores. The sweep takes
one fold a core. The loop runs with one thread of linear algebra and with all, and the faster counts; beside it
stands a loop whose fits are spread over cores in processes of joblib, taken to lose nothing by it.
"""

import os
import resource
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from statistics import median
from typing import Any

import numpy as np
from joblib import Parallel, delayed, parallel_config
from sklearn.linear_model import LogisticRegression, Ridge
from threadpoolctl import threadpool_limits

from probing.probes.fitted import Standardizer
from probing.probes.linear import PENALTIES, ridge_path
from probing.probes.logistic import logistic_path

SITES, FOLDS = 30, 5
SHAPES = {"3000x576": (3000, 576, 25), "5000x2048": (5000, 2048, 25)}
QUICK = {"300x64": (300, 64, 5)}
ROUNDS = 5

PEERS: dict[str, tuple[Callable, Callable]] = {
    "logistic": (logistic_path, lambda penalty: LogisticRegression(C=1 / penalty, max_iter=1_000)),
    "ridge": (ridge_path, lambda penalty: Ridge(alpha=penalty)),
}


def run(quick: bool = False) -> dict[str, Any]:
    """Ratios of the loop's time to the sweep's, medians of interleaved rounds; seconds of whole sweeps."""
    shapes = QUICK if quick else SHAPES
    record: dict[str, Any] = {"ratios": {}, "seconds": {}, "sizes": {}}
    for shape, (rows, width, targets) in shapes.items():
        features, labels = _world(rows, width, targets)
        for probe in PEERS:
            found = _compare(probe, features, labels)
            name = f"{probe}_{shape}"
            for peer in ("", "_spread_over_cores"):
                record["ratios"][f"{name}_speedup_over_sklearn{peer}"] = found[f"ratio{peer}"]
            for kind in ("sweep", "loop_one_thread", "loop_all_threads", "loop_spread_over_cores"):
                record["seconds"][f"{name}_{kind}"] = found[kind] * SITES * FOLDS
            record["sizes"][f"{name}_accuracy_difference"] = found["accuracy_difference"]
    for probe in PEERS:
        for peer in ("", "_spread_over_cores"):
            each = [record["ratios"][f"{probe}_{shape}_speedup_over_sklearn{peer}"] for shape in shapes]
            record["ratios"][f"{probe}_speedup_over_sklearn{peer}"] = min(each)
    fits = {"sites": SITES, "folds": FOLDS, "penalties": len(PENALTIES), "rounds": ROUNDS}
    record["sizes"] |= fits | {"peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}
    return record


def _compare(probe: str, features: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Seconds a fold of both sides, their ratios, and the difference of their accuracy on held-out rows."""
    fold, cores = np.arange(len(features)) % FOLDS, os.cpu_count() or 1
    taken: dict[str, list[float]] = {"sweep": []}
    differences = []
    _sweep(probe, features, labels, fold)
    for turn in range(ROUNDS):
        seconds, paths = _sweep(probe, features, labels, fold)
        taken["sweep"].append(seconds)
        for kind, jobs, threads in (
            ("loop_one_thread", 1, 1),
            ("loop_all_threads", 1, cores),
            ("loop_spread_over_cores", cores, 1),
        ):
            seconds, difference = _loop(probe, features, labels, fold, turn, paths[0], jobs, threads)
            taken.setdefault(kind, []).append(seconds)
            differences.append(difference)
    found = {kind: median(seconds) for kind, seconds in taken.items()}
    best = min("loop_one_thread", "loop_all_threads", key=found.__getitem__)
    for name, kind in (("ratio", best), ("ratio_spread_over_cores", "loop_spread_over_cores")):
        found[name] = median(p / o for p, o in zip(taken[kind], taken["sweep"], strict=True))
    return found | {"accuracy_difference": float(np.mean(differences))}


def _sweep(
    probe: str, features: np.ndarray, labels: np.ndarray, fold: np.ndarray
) -> tuple[float, list[tuple[np.ndarray, np.ndarray]]]:
    """Seconds a fold, as many folds at a time as there are cores, and each fold's path."""

    def one(held: int) -> tuple[np.ndarray, np.ndarray]:
        known = features[fold != held]
        return PEERS[probe][0](Standardizer.fit(known)(known).astype(np.float32), labels[fold != held])

    cores = os.cpu_count() or 1
    started = time.perf_counter()
    with threadpool_limits(1), ThreadPoolExecutor(cores) as pool:
        paths = list(pool.map(one, [held % FOLDS for held in range(cores)]))
    return (time.perf_counter() - started) / cores, paths


def _loop(
    probe: str,
    features: np.ndarray,
    labels: np.ndarray,
    fold: np.ndarray,
    turn: int,
    path: tuple[np.ndarray, np.ndarray],
    jobs: int,
    threads: int,
) -> tuple[float, float]:
    """Seconds a fold of the loop, from one fit a penalty, and how much the accuracy of the two differs."""
    scaled = Standardizer.fit(features[fold != 0])
    known, held = (scaled(features[part]).astype(np.float32) for part in (fold != 0, fold == 0))
    truth = labels[fold == 0] > 0.5
    targets = [(turn * len(PENALTIES) + k) % labels.shape[1] for k in range(len(PENALTIES))]
    with threadpool_limits(threads), parallel_config("loky", inner_max_num_threads=threads):
        fits: Any = Parallel(n_jobs=jobs)(
            delayed(_fit)(probe, penalty, known, labels[fold != 0, target], held)
            for penalty, target in zip(PENALTIES, targets, strict=True)
        )
    differences = []
    for k, (target, (_, said)) in enumerate(zip(targets, fits, strict=True)):
        mine = held @ path[0][k][:, target] + path[1][k][target] - (0.5 if probe == "ridge" else 0)
        differences.append(abs((said == truth[:, target]).mean() - ((mine > 0) == truth[:, target]).mean()))
    seconds = np.mean([taken for taken, _ in fits]) * len(PENALTIES) * labels.shape[1] / jobs
    return float(seconds), float(np.mean(differences))


def _fit(
    probe: str, penalty: float, known: np.ndarray, wanted: np.ndarray, held: np.ndarray
) -> tuple[float, np.ndarray]:
    """Seconds of one fit, and which held-out rows it takes for positive."""
    started = time.perf_counter()
    model = PEERS[probe][1](penalty).fit(known, wanted)
    seconds = time.perf_counter() - started
    return seconds, (model.decision_function(held) if probe == "logistic" else model.predict(held) - 0.5) > 0


def _world(rows: int, width: int, targets: int) -> tuple[np.ndarray, np.ndarray]:
    """Features with the spectrum of a residual stream, and labels that some of them tell.

    The share of variance of the k-th component falls as 1/k up to about the 40th and as 1/k² from there: in
    standardised rows of SmolLM2-135M (702 pictures, layers 10, 20 and 28) the shares of components 1, 40 and 320
    are .2, .0035 and .00005.
    """
    rng = np.random.default_rng(0)
    order = np.arange(1, width + 1)
    spread = np.sqrt(1 / (order * (1 + order / 40)))
    turn = np.linalg.qr(rng.normal(size=(width, width)))[0]
    features = (rng.normal(size=(rows, width)) * spread) @ turn
    features /= features.std()
    scores = features @ rng.normal(size=(width, targets)) / np.sqrt(width) * 2
    labels = scores + rng.logistic(size=scores.shape) > 2.5
    return features.astype(np.float32), labels.astype(np.float64)
