"""All checks by section of the page, and what is printed without one."""

from __future__ import annotations

from collections.abc import Mapping

from tests.calibration import (
    behaviour,
    categories,
    edits,
    lens,
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
    "Answers": behaviour.CHECKS,
    "Patching": patching.CHECKS,
    "Pooling over runs": pooling.CHECKS,
    "Lenses": lens.CHECKS,
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
            for analysis in ("erasure", "steering")
            for measure in ("mahalanobis_percentile", "neighbour_percentile", "unnatural")
        ),
        "limits are those of other read-outs under edits, which are checked; percentiles are bounded and skewed, and "
        "where all states agree limits have no width",
    ),
    "interchange.*": "limits over hypernyms are those of patching, which are checked there; a subspace is taken as it "
    "was fitted, and worlds in which it is fitted anew were not drawn. p are ranks among draws of a control",
    "circuits.*": "limits are over leaves of the half on which no parts were chosen, and the choice is taken as it is; "
    "those beyond random sets also over the draws of these, p their ranks. The band over routes is that of patching, "
    "which is checked with pairs. Of Jaccard indices of leaves drawn again, where 95 % of the draws lie, which is no "
    "interval of the index",
    "sparse_features.*": "limits over leaves, widened by the factors that were measured for probes, not for features; "
    "p are ranks among labels exchanged between leaves, q those of all hypernyms and places by Benjamini–Hochberg",
    "picture_maps.*": "percentile limits over leaves of shares of mass, of which worlds were not drawn; with one "
    "picture a leaf they are of leaves and pictures together. Area and shuffled tokens, the chance beside them, are "
    "of the same pictures",
    "mediation.*": "limits are those of contrasts of answers over leaves, hypernyms, seeds, which are checked there; "
    "levels of naming, at which conditions are compared, are taken as they were measured",
    "lens.nearest*": "limits over leaves and shuffled banks, as of knock-out, and exact ones where all leaves agree; p "
    "are ranks among 19 banks in which words are exchanged. Evidence through the contextual and Jacobian lens and the "
    "patchscope has the limits of the cosine, tuned and logit lens, and only these are checked",
    "power.required*": "the inverse of the contrast that is detected, which is checked; limits of both, which are of "
    "the variances of the pilot, are not",
}
"""Printed numbers with limits (analysis.measure, with wildcards) that no check vouches for → why."""
