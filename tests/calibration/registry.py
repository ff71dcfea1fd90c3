"""All checks by section of the page, and what is printed without one."""

from __future__ import annotations

from collections.abc import Mapping

from tests.calibration import (
    behaviour,
    categories,
    circuits,
    edits,
    emergence,
    features,
    interchange,
    lens,
    maps,
    mediation,
    nearest,
    patching,
    pooling,
    power,
    probes,
    runs,
    similarity,
)
from tests.calibration.check import Check

ROOMS: Mapping[str, tuple[Check, ...]] = {
    "Layer probes within a run": probes.CHECKS,
    "Similarity": similarity.CHECKS,
    "Cohesion and geometry": categories.CHECKS,
    "Contrasts of probed runs, means over seeds": runs.CHECKS,
    "Agreement of evidence": emergence.CHECKS,
    "Answers": behaviour.CHECKS,
    "Patching": patching.CHECKS,
    "Pooling over runs": pooling.CHECKS,
    "Interchange of subspaces": interchange.CHECKS,
    "Circuits": circuits.CHECKS,
    "Lenses": (*lens.CHECKS, *nearest.CHECKS),
    "Sparse features": features.CHECKS,
    "Maps of pictures": maps.CHECKS,
    "Mediation": mediation.CHECKS,
    "Knock-out, erasure, steering": edits.CHECKS,
    "Power": power.CHECKS,
}
"""Title of a section of docs/statistics.md → its checks."""
CHECKS: tuple[Check, ...] = tuple(check for checks in ROOMS.values() for check in checks)
UNCHECKED: Mapping[str, str] = {
    **dict.fromkeys(
        ("erasure.kl", "steering.kl"),
        "a divergence is skewed, and intervals of its mean over few leaves are too narrow: they covered .90 ± .01 in "
        "120 worlds of hypernyms of 6, 12 and 20 leaves where its logarithm has an SD of 1.4; read them as of 90 %",
    ),
    **dict.fromkeys(
        (
            f"{analysis}.{measure}"
            for analysis in ("erasure", "steering", "interchange", "patching")
            for measure in ("mahalanobis_percentile", "neighbour_percentile", "unnatural")
        ),
        "limits are those of other read-outs under edits, which are checked; percentiles are bounded and skewed, and "
        "where all states agree limits have no width",
    ),
    "interchange.effect_p, random": "ranks beside random subspaces are exact where the subspace could as well be any "
    "of them. One that is made of exchanged labels lies nearer the largest directions of the states: its p is .05 or "
    "less in .07 (rank 1) and .10 (rank 4) of 150 worlds, beside exchanged labels in .04 and .06. Read the three "
    "controls together",
    "circuits.jaccard_redrawn": "where 95 % of Jaccard indices of leaves drawn again lie, which is no interval of the "
    "index",
    "lens.*": "evidence through the contextual and Jacobian lens and the patchscope has the limits of the cosine, "
    "tuned and logit lens, and only these are checked",
    **dict.fromkeys(
        ("mediation.state", "mediation.meaning", "mediation.gap at equal naming"),
        "limits are made as those of natural effects, which are checked, from statistics of the same leaves",
    ),
}
"""Printed numbers with limits (analysis.measure, with wildcards) that no check vouches for → why."""
