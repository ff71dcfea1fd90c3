"""Tables of a study that nobody ran: every run of a plan with read-outs whose strength is chosen."""

import json
from collections.abc import Callable

import numpy as np
import pandas as pd

from analyses.study import collecting
from analyses.study.ranks import key_of, signed_ranks
from analyses.study.tables import COLUMNS, Tables
from probing.stats.seeding import stream
from taxogen.answers.completion import Completions
from taxogen.questions import ablation
from taxogen.runs.config import Config
from taxogen.stages.sweeping.plan_file import PlanFile
from taxogen.world.taxonomy import Taxonomy

HYPERNYMS = tuple(f"kind{number}" for number in range(10))
TAXONOMY = Taxonomy(tuple((f"{name}-{number}", name) for name in HYPERNYMS for number in range(5)))
LEAVES = np.array(TAXONOMY.leaves)
LAYERS = 6


def planted(
    plan: PlanFile,
    strength: Callable[[Config], float],
    naming: Callable[[Config], float] = lambda config: 0.7,
    lacking: Callable[[str], bool] = lambda run: False,
) -> Tables:
    """The tables of a plan's runs, but for those that are lacking.

    Args:
        plan: of the runs.
        strength: by how many standard deviations a true hypernym's read-out lies above the others, and how much of the
            transfer there is.
        naming: the share of leaves that are named.
        lacking: whether a run is not finished.
    """
    tables = Tables.empty().with_plan(collecting._plan_rows(plan))
    for name, config in plan.runs.items():
        if not lacking(name):
            tables = tables.with_rows(name, rows_of(name, config, strength(config), naming(config)))
    return tables.tidy()


def rows_of(name: str, config: Config, strength: float, naming: float) -> dict[str, pd.DataFrame]:
    """The rows of one run."""
    labels = np.asarray(TAXONOMY.labels(LEAVES.tolist()))
    common = stream(config.seed, "noise").normal(size=labels.shape)
    own = stream(config.seed, "noise", name).normal(size=labels.shape)
    read = strength * labels + 0.9 * common + 0.3 * own
    ranks = {"words": signed_ranks(3.0 * labels + common), "probe": signed_ranks(2.0 * labels + common)}
    ranks["probe_held_out"] = signed_ranks(1.0 * labels + common)
    options = {"fraction": config.data.fraction, "seed": config.seed, "held_out": config.data.held_out}
    removal = ablation.plan(TAXONOMY, config.data.ablation, **options)
    named = stream(config.seed, "naming", name).random(len(LEAVES)) < naming
    about = {
        **{"run": name, "hash": config.hash, "made_from": name, "code": "0"},
        **{
            "config": json.dumps(config.to_dict()),
            "effective": removal.effective,
            "coherence": coherence(config),
        },
        **{
            "steps": 10,
            "training_items": 100,
            "seconds": 1.0,
            "about": Completions.about,
            "leaf_choices": 20,
        },
        **{
            "hypernyms": list(HYPERNYMS),
            "thresholds": [],
            "probed_leaves": LEAVES.tolist(),
            "taxonomy": "toy",
        },
        **{kind: key_of(values, LEAVES) for kind, values in ranks.items()},
    }
    pictures = {
        **{"run": name, "picture": LEAVES, "leaf": LEAVES, "shown_leaf": LEAVES, "leaf_correct": named},
        **{"named_leaf": np.where(named, LEAVES, np.roll(LEAVES, 1))},
        **{"top1": labels[np.arange(len(LEAVES)), read.argmax(axis=1)].astype(float)},
        "ranks": list(signed_ranks(read)),
    }
    edges = pd.DataFrame([*TAXONOMY.edges], columns=["node", "hypernym"]).assign(taxonomy="toy")
    numbers, draws = probed(name, config.seed, strength)
    rows = {"runs": pd.DataFrame([about]), "pictures": pd.DataFrame(pictures), "taxonomies": edges}
    rows["readouts"] = pd.concat([collecting._readout(values, LEAVES) for values in ranks.values()])
    return rows | {"numbers": numbers, "draws": draws}


def coherence(config: Config) -> float:
    """A realised coherence for every shuffle."""
    known = {
        "none": 0.3,
        "within": 0.3,
        "category": 0.28,
        "across": 0.0,
        "graded": 0.3 * config.data.coherence,
    }
    return known[config.data.shuffle]


def probed(name: str, seed: int, strength: float) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Curves of the transfer that rise from the third block on, their draws, and sizes."""
    height = min(0.4, 0.15 * max(0.0, strength))
    value = np.where(np.arange(LAYERS) >= 3, height, 0.0)
    place = {"step": 10, "span": "cue", "modality": collecting.TRANSFER}
    about = {"run": name, "analysis": "layer_probes", **place}
    numbers, draws = [], []
    noise = stream(seed, "draws", name).normal(0, 0.02, size=(collecting.DRAWS, LAYERS))
    for measure, curve in (("auroc", value + 0.5), ("selectivity", value)):
        for layer in range(LAYERS):
            site = f"blocks.{layer}.hook_resid_post"
            row = {"site": site, "measure": measure, "value": curve[layer]}
            limits = {"lower": curve[layer] - 0.04, "upper": curve[layer] + 0.04, "n": len(LEAVES)}
            numbers.append({**about, **row, **limits, "layer": layer, "target": "mean"})
    for layer in range(LAYERS):
        row = {"run": name, "analysis": "cohesion", "step": 10, "span": "cue", "modality": "image"}
        row |= {
            "site": f"blocks.{layer}.hook_resid_post",
            "measure": "cohesion",
            "value": value[layer] + 0.01 * seed,
        }
        limits = {"lower": row["value"] - 0.1, "upper": row["value"] + 0.1, "n": len(LEAVES)}
        numbers.append({**row, **limits, "layer": layer, "target": "mean"})
    for layer in range(LAYERS):
        scale = np.abs(noise[:, layer]).max() / 127
        whole = np.round(noise[:, layer] / scale).astype(np.int8)
        site = f"blocks.{layer}.hook_resid_post"
        row = {"probe": "ridge", "site": site, "value": value[layer], "scale": scale, "deviations": whole}
        draws.append({"run": name, **place, **row})
    wobble = stream(seed, "sizes").normal(0, 0.01, size=len(HYPERNYMS))
    for hypernym, own in zip(HYPERNYMS, wobble, strict=True):
        row = {"site": "", "measure": "size", "value": 0.5 + height + own, "n": len(LEAVES)}
        numbers.append({**about, **row, "target": hypernym})
    framed = (
        pd.DataFrame(rows, columns=list(COLUMNS[key]))
        for key, rows in (("numbers", numbers), ("draws", draws))
    )
    first, second = framed
    return first, second
