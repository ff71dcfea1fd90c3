"""Rows of the stored tables from finished runs, and which runs are collected."""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analyses.frame.analysis import REFUSALS, in_one_line
from analyses.inputs.answers import Answers
from analyses.inputs.categories import MEAN
from analyses.inputs.conditions import Condition
from analyses.inputs.measures import top1_hits
from analyses.inputs.probe_curves import FILE as DRAWS_FILE
from analyses.inputs.probe_curves import read_draws
from analyses.layer_probes.rows import OVER_TARGETS
from analyses.study import asking
from analyses.study.ranks import key_of, signed_ranks, threshold_ranks
from analyses.study.tables import COLUMNS, Tables
from probing.store import MismatchError, records
from taxogen.answers import evaluate as scoring
from taxogen.runs import coherence
from taxogen.runs.run import Run
from taxogen.stages.sweeping.plan_file import PlanFile
from taxogen.stages.sweeping.run_stages import Questions

PROBES, COHESION = "layer-probes", "cohesion"
TRANSFER = "text→image"
DRAWS = 400  # the limits of an onset need more than those of a curve
FORMAT = 4
"""Of the rows: another number where the same files give other rows, so that stored ones are read again."""
_CURVES = ("auroc", "control_auroc", "selectivity", "onset", "half_rise", "cohesion")
Rows = dict[str, pd.DataFrame]


def collect(tables: Tables, plan: PlanFile, runs: Path) -> tuple[Tables, list[str], list[str]]:
    """The tables with the results of a plan's finished runs, the names of those read for it, and what is left out.

    A run that the tables have already, from the same files, is not read again; runs that are not there, or that cannot
    be read, are left as they are in the tables. Of the latter there is a line each.

    Raises:
        MismatchError: a folder has a run of another config than the plan's, or the tables have; or they have finished
            runs of this plan that it lacks.
    """
    _require_whole(tables, plan)
    tables, names, faults = tables.with_plan(_plan_rows(plan)), [], []
    stored = dict(zip(tables.runs["run"], tables.runs["made_from"]))
    for name, wanted in plan.runs.items():
        path = runs / name
        if not (path / "config.json").is_file():
            continue
        try:
            run = Run.open(path)
            made_from = records.digest_of(_made_from(run, plan.questions))
            same = run.config.hash == wanted.hash
            if same and finished(run):
                _require_scored(run, run.config.evaluate == wanted.evaluate)
                if stored.get(name) != made_from:
                    rows = rows_of(run, made_from, plan.questions)
                    _require_scored(run, scoring.fits(run))
                    tables = tables.with_rows(name, rows)
                    names.append(name)
        except REFUSALS as fault:
            faults.append(f"{name} is left out: {in_one_line(fault)}")
            continue
        if not same:
            raise MismatchError(
                f"{path} is a run of another config ({run.config.hash}) than the plan's ({wanted.hash}); give "
                "--set as `taxoprobe sweep` was given it, name the folder of this plan's runs with --runs, or remove "
                "that run"
            )
    _require_same(tables, plan)
    return tables.tidy(), names, faults


def _require_scored(run: Run, as_wanted: bool) -> None:
    """Refuses a run whose scores are of other choices, templates or pictures than the plan's."""
    if not as_wanted:
        raise MismatchError(
            f"{run.path} is scored with other settings `evaluate` than the plan's; `taxoprobe sweep` scores it again"
        )


def _require_whole(tables: Tables, plan: PlanFile) -> None:
    """Refuses a plan that lacks some of its runs that the tables have: verdicts would rest on the others alone."""
    rows = tables.plan[(tables.plan["plan"] == plan.name) & tables.plan["run"].isin(tables.runs["run"])]
    if lost := sorted(set(rows["run"]) - set(plan.runs)):
        raise MismatchError(
            f"the tables have {len(lost)} runs of {plan.name} that this plan has not, such as {lost[0]}: leave out "
            "--set seed=…, or give another --out"
        )


def _require_same(tables: Tables, plan: PlanFile) -> None:
    """Refuses tables that have a run of another config than the plan's."""
    hashes = {name: run.hash for name, run in plan.runs.items()}
    for row in tables.runs.to_dict("records"):
        if hashes.get(row["run"], row["hash"]) != row["hash"]:
            raise MismatchError(
                f"the tables have {row['run']} of another config ({row['hash']}) than the plan's "
                f"({hashes[row['run']]}): give another --out, or make that run again with `taxoprobe sweep`"
            )


def finished(run: Run) -> bool:
    """Whether a run is trained and scored beside its baselines."""
    return run.complete and all(run.file(name).is_file() for name in ("scores.h5", "baselines.h5"))


def rows_of(run: Run, made_from: str, questions: Questions) -> Rows:
    """The rows of every table about one run; `questions` are those that it may have been asked, with their options.

    Raises:
        MismatchError, DamagedError: a file of the run is not as it was written, or of another run.
    """
    answers = Answers.of(run)
    scores = answers.scores
    headline = Condition(run.name, {"shuffle": run.config.data.shuffle}, (answers,)).headline
    values, labels, leaves = answers.read(headline)
    shared = {
        "words": (signed_ranks(scores.text_scores), scores.text["leaf"].to_numpy(str)),
        **{name: (signed_ranks(answers.baselines[name]), leaves) for name in ("probe", "probe_held_out")},
    }
    edges = [*run.taxonomy.edges]
    taxonomy = records.digest_of(edges)[:16]
    pictures = pd.DataFrame(
        {
            "picture": scores.image["picture"].astype(str),
            "leaf": leaves,
            "shown_leaf": scores.image["shown_leaf"].astype(str),
            "leaf_correct": scores.leaf_correct.astype(bool),
            "named_leaf": list(answers.naming),
            "top1": top1_hits(values, labels).astype(np.float32),
            "ranks": list(signed_ranks(scores.raw)),
        }
    )
    about = _about(run, answers, made_from) | {name: key_of(*one) for name, one in shared.items()}
    numbers, draws, probed = _analysed(run, questions)
    return {
        "runs": _framed("runs", [about | {"taxonomy": taxonomy, "probed_leaves": list(probed)}]),
        "pictures": pictures.assign(run=run.name)[list(COLUMNS["pictures"])],
        "readouts": pd.concat([_readout(*one) for one in shared.values()], ignore_index=True),
        "taxonomies": pd.DataFrame(edges, columns=["node", "hypernym"]).assign(taxonomy=taxonomy),
        "numbers": numbers.assign(run=run.name).reindex(columns=list(COLUMNS["numbers"])),
        "draws": _framed("draws", [{"run": run.name, **row} for row in draws]),
    }


def _plan_rows(plan: PlanFile) -> pd.DataFrame:
    rows = [
        {"group": group, "about": members.about, "condition": plan.conditions[run], "label": label}
        | {"run": run, "seed": plan.runs[run].seed, "hash": plan.runs[run].hash, "plan": plan.name}
        | {"equivalence": plan.equivalence.get("auroc", float("nan"))}
        for group, members in plan.groups.items()
        for run, label in members.runs.items()
    ]
    return _framed("plan", rows)


def _about(run: Run, answers: Answers, made_from: str) -> dict[str, Any]:
    scores, record = answers.scores, run.record
    thresholds = scores.thresholds
    return {
        "run": run.name,
        "hash": run.config.hash,
        "made_from": made_from,
        "code": record.get("versions", {}).get("taxoprobe", importlib.metadata.version("taxoprobe")),
        "config": json.dumps(_portable(run.config.to_dict()), sort_keys=True),
        "effective": answers.effective,
        "coherence": _coherence(run),
        "steps": record["steps"],
        "training_items": record["training_items"],
        "seconds": float(record.get("seconds", "nan")),
        "about": scores.about,
        "leaf_choices": scores.leaf_choices,
        "hypernyms": list(scores.hypernyms),
        "thresholds": [] if thresholds is None else threshold_ranks(thresholds, scores.raw).tolist(),
    }


def _portable(value: Any) -> Any:
    """Settings without the folders of one machine: of an absolute path its last part, for tables are published."""
    if isinstance(value, dict):
        return {key: _portable(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_portable(one) for one in value]
    return Path(value).name if isinstance(value, str) and Path(value).is_absolute() else value


def _coherence(run: Run) -> float:
    """The realised coherence; NaN where an older version prepared the run, or it is not defined."""
    if not run.file(coherence.FILE).is_file():
        return float("nan")
    value = coherence.read(run)["coherence"]
    return float("nan") if value is None else float(value)


def _analysed(run: Run, questions: Questions) -> tuple[pd.DataFrame, list[dict[str, Any]], tuple[str, ...]]:
    """Numbers and draws of the questions that were asked of a run, and the leaves that were probed."""
    parts, draws, probed = [], [], ()
    if path := asking.answer([run], PROBES, questions.get(PROBES, {})):
        probes = pd.read_parquet(path)
        last = probes["step"].isin([probes["step"].max(), -1]) & ~probes["probe"].str.contains(",")
        parts += [_curves(probes[last]), _size(probes[last])]
        draws, probed = _draws(path, int(probes["step"].max()))
    if path := asking.answer([run], COHESION, questions.get(COHESION, {})):
        cohesion = pd.read_parquet(path)
        first = cohesion["treatment"] == cohesion["treatment"].iloc[0]
        parts.append(_curves(cohesion[first & cohesion["step"].isin([cohesion["step"].max(), -1])]))
    numbers = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=list(COLUMNS["numbers"]))
    return numbers.astype({name: np.float32 for name in ("value", "lower", "upper", "layer")}), draws, probed


def _curves(table: pd.DataFrame) -> pd.DataFrame:
    """Means over hypernyms along the layers."""
    return table[(table["target"] == MEAN) & table["measure"].isin(_CURVES)]


def _size(probes: pd.DataFrame) -> pd.DataFrame:
    """Of each hypernym the mean AUROC of the transfer over the last third of the blocks, at every span."""
    stream = probes["site"].str.endswith("hook_resid_post") & (probes["modality"] == TRANSFER)
    rows = probes[stream & (probes["measure"] == "auroc") & ~probes["target"].isin(OVER_TARGETS)]
    last = rows["layer"].max()
    rows = rows[rows["layer"] >= min(2 / 3 * (last + 1), last)]
    labels = ["analysis", "step", "span", "modality", "target"]
    mean = rows.groupby(labels, as_index=False, sort=True).agg({"value": "mean", "n": "first"})
    return mean.assign(measure="size", site="", layer=np.nan, lower=np.nan, upper=np.nan)


def _draws(probes: Path, step: int) -> tuple[list[dict[str, Any]], tuple[str, ...]]:
    """Some draws of the curves of the transfer at the last step, in 8 bits each, and the leaves that were drawn."""
    path = probes.with_name(DRAWS_FILE)
    if records.made_from(path) != records.made_from(probes):
        raise MismatchError(f"{path} was not made with the table beside it; ask `layer_probes` again")
    stored, rows = read_draws(path), []
    for condition, (sites, series) in stored.curves.items():
        if condition.modality != TRANSFER or condition.step != step or "," in condition.probe:
            continue
        for at, site in enumerate(sites):
            value, drawn = series.selectivity[at], series.selectivity_draws[:DRAWS, at]
            deviation = np.nan_to_num(drawn - value)
            scale = float(np.abs(deviation).max() / 127) or 1.0
            whole = np.round(deviation / scale).astype(np.int8)
            row = {"site": site, "value": np.float32(value), "scale": np.float32(scale)}
            rows.append({**condition._asdict(), **row, "deviations": whole})
    return rows, stored.leaves


def _made_from(run: Run, questions: Questions) -> dict[str, Any]:
    """What the rows of a run are made from: hashes of its files that are read, the questions, and how they are read."""
    options = {name: questions.get(name, {}) for name in (PROBES, COHESION)}
    paths = [run.file(name) for name in ("run.json", "scores.h5", "baselines.h5", coherence.FILE)]
    tables = [asking.stored([run], name, own).path for name, own in options.items()]
    paths += [*tables, tables[0].with_name(DRAWS_FILE)]
    digests = {path.name: records.sha256(path) for path in paths if path.is_file()}
    return {"format": FORMAT, "questions": options, **digests}


def _readout(ranks: np.ndarray, names: np.ndarray) -> pd.DataFrame:
    rows = {"readout": key_of(ranks, names), "row": range(len(ranks)), "leaf": names, "ranks": list(ranks)}
    return pd.DataFrame(rows)


def _framed(name: str, rows: list[Mapping[str, Any]] | list[dict[str, Any]]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=list(COLUMNS[name]))
