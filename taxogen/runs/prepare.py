"""Prepare: from a config to everything that training needs, checked before anything expensive starts."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources

import numpy as np
import pandas as pd

from probing.stats.seeding import stream
from taxogen.questions import items
from taxogen.questions.ablation import ablate
from taxogen.questions.manifest import Manifest
from taxogen.questions.nouns import refuse_shared_words
from taxogen.questions.prompts import FORMATS
from taxogen.runs.config import Config, DataConfig, EvaluateConfig
from taxogen.runs.run import Run
from taxogen.world import pictures, shuffle, splits
from taxogen.world.taxonomy import Taxonomy

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class World:
    """The pictures that a run shows, and the questions that it asks.

    Attributes:
        pictures: the collection.
        table: picture, leaf (its name in this world), shown_leaf, split, content_hash …; sorted by picture.
        taxonomy: of the leaves that are shown.
        manifests: `train`, `test` and `capture`; of closed questions `validation` too, where there are such pictures.
        leaf_map: for every leaf, the name of its pictures in this world.
        asked: the number of training items before the ablation.
        left_out: leaves with pictures that the shuffle could not exchange one to one, and that are not shown.
    """

    pictures: pictures.Pictures
    table: pd.DataFrame
    taxonomy: Taxonomy
    manifests: dict[str, Manifest]
    leaf_map: dict[str, str]
    asked: int
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True)
class Shown:
    """The pictures that a run shows and their names in its world, before anything is asked.

    Attributes:
        table: picture, leaf (its name in this world), shown_leaf, split …; sorted by picture.
        taxonomy: of the leaves that are shown.
        leaf_map: for every leaf, the name of its pictures in this world.
        left_out: leaves with pictures that the shuffle could not exchange one to one, and that are not shown.
    """

    table: pd.DataFrame
    taxonomy: Taxonomy
    leaf_map: dict[str, str]
    left_out: tuple[str, ...]


def world(run: Run) -> World:
    """The pictures, names and manifests of a run's config; every choice is seeded, none depends on file order.

    Raises:
        KeyError: a leaf of the pictures is not in the taxonomy, or a hypernym is not known.
        ValueError: pictures cannot be read, a leaf has too few, leaves share a word, nothing is left to train on, or
            evidence leaks.
    """
    config, data = run.config, run.config.data
    refuse_late(config, config.train.steps)
    collection = pictures.load(data.pictures)
    chosen, everything, train = trained_on(config, collection.table)
    manifests = {"train": train}
    prompts = items.prompts_of(data.task, data.templates)
    manifests |= _asked(run, chosen.table, chosen.taxonomy, prompts["hypernym"][:1])
    _say_idle(prompts, manifests["train"], trained=not config.model.vlm)
    names, left_out = chosen.leaf_map, chosen.left_out
    return World(collection, chosen.table, chosen.taxonomy, manifests, names, len(everything), left_out)


def trained_on(config: Config, table: pd.DataFrame) -> tuple[Shown, Manifest, Manifest]:
    """What a config shows of a collection's table, its training questions, and those that the ablation leaves.

    Raises:
        KeyError, ValueError: as `world`.
    """
    chosen = shown(config, table, taxonomy_of(config.data))
    refuse_choices(config, len(chosen.taxonomy.leaves))
    everything = training_questions(config, chosen)
    return chosen, everything, without_ablated(config, chosen, everything)


def refuse_late(config: Config, steps: int) -> None:
    """Raise a ValueError where activations are to be captured after a step that training (of `steps`) never comes to.

    With steps of 0 nothing is known yet: they are as many as `train.epochs` are; of a released model none is trained.
    """
    late = [name for name in config.capture.at if name.isdigit() and int(name) > steps > 0]
    if late and not config.model.vlm:
        raise ValueError(
            f"capture.at names step {late[0]}, and training ends at step {steps}: name steps up to that, or last"
        )


def refuse_choices(config: Config, leaves: int) -> None:
    """Raise a ValueError where a leaf is to be named among more names than there are; by default among at most all."""
    wanted = config.evaluate.leaf_choices
    if wanted > leaves and wanted != EvaluateConfig().leaf_choices:
        raise ValueError(
            f"evaluate.leaf_choices={wanted} was asked for, and {leaves} leaves are shown: name at most {leaves}, or "
            "leave it out"
        )


def shown(config: Config, table: pd.DataFrame, taxonomy: Taxonomy) -> Shown:
    """The pictures of a collection's table that a config shows, split, under their names in its world.

    Raises:
        KeyError, ValueError: as `world`.
    """
    data, seed = config.data, config.seed
    _check_leaves(table, taxonomy, data)
    table = _chosen_leaves(table, taxonomy, data.leaves, seed)
    table = few_per_leaf(table, data.pictures_per_leaf, seed)
    taxonomy = taxonomy.restrict(sorted(set(table["leaf"])))
    names = shuffle.leaf_map(taxonomy, data.shuffle, seed, coherence=data.coherence)
    if left_out := tuple(sorted(set(taxonomy.leaves) - set(names))):
        count, total = len(left_out), len(taxonomy.leaves)
        log.info("shuffle %s leaves out %d of %d leaves: %s", data.shuffle, count, total, ", ".join(left_out))
        table, taxonomy = table[table["leaf"].isin(list(names))], taxonomy.restrict(names)
    refuse_shared_words(taxonomy.leaves)
    table = splits.split_pictures(table, data.split, seed=seed)
    table = shuffle.relabel(table, names).sort_values("picture", kind="stable").reset_index(drop=True)
    return Shown(table, taxonomy, names, left_out)


def training_questions(config: Config, chosen: Shown) -> Manifest:
    """The questions about training pictures, before the ablation."""
    data = config.data
    return items.training_items(
        chosen.table,
        chosen.taxonomy,
        prompts=items.prompts_of(data.task, data.templates),
        negatives=data.negatives,
        seed=config.seed,
    )


def without_ablated(config: Config, chosen: Shown, everything: Manifest) -> Manifest:
    """The training questions that the ablation leaves."""
    data = config.data
    options = {"fraction": data.fraction, "rule": data.rule or None, "held_out": data.held_out}
    return ablate(everything, chosen.taxonomy, data.ablation, **options, seed=config.seed)


def _say_idle(prompts: Mapping[str, Sequence[str]], train: Manifest, trained: bool) -> None:
    """Warns of templates of which no question is made: the test asks the first of a kind, training all."""
    asked = set(train.frame["prompt"]) if trained else set()
    if idle := [name for kind in prompts.values() for name in kind[1:] if name not in asked]:
        log.warning(
            "data.templates names %s, which nothing asks: no such question is trained, and the test asks the first of "
            "a kind; evaluate.templates names more for the test",
            ", ".join(idle),
        )


def few_per_leaf(table: pd.DataFrame, most: int, seed: int) -> pd.DataFrame:
    """At most `most` pictures of each leaf, a seeded draw; all of them for 0."""
    if most <= 0:
        return table
    parts = []
    for leaf, rows in table.sort_values("picture").groupby("leaf", sort=True):
        order = stream(seed, "few pictures", str(leaf)).permutation(len(rows))[:most]
        parts.append(rows.iloc[sorted(order)])
    return pd.concat(parts).sort_values("picture", kind="stable").reset_index(drop=True)


def taxonomy_of(data: DataConfig) -> Taxonomy:
    """The table that the config names, or the one that comes with its pictures."""
    if data.taxonomy:
        return Taxonomy.read(data.taxonomy)
    if data.pictures not in pictures.BUNDLED:
        raise ValueError(
            f"pictures from {data.pictures!r} come without a taxonomy; give a table (leaf, hypernym) with "
            "--set data.taxonomy=FILE, or make one with `python -m taxogen taxonomy --leaves FILE`"
        )
    with resources.as_file(resources.files("taxogen") / "data" / "taxonomy.csv") as path:
        return Taxonomy.read(path)


def _check_leaves(table: pd.DataFrame, taxonomy: Taxonomy, data: DataConfig) -> None:
    strangers = sorted(set(table["leaf"]) - set(taxonomy.leaves))
    if strangers:
        raise KeyError(
            f"{len(strangers)} leaves of {data.pictures!r} are not in the taxonomy: {strangers[:10]}; "
            "add rows (leaf, hypernym) for them to the table, or remove their pictures"
        )
    unknown = sorted(set(data.held_out) - set(taxonomy.hypernyms))
    if unknown:
        raise KeyError(
            f"data.held_out names unknown hypernyms {unknown}; known: {', '.join(taxonomy.hypernyms)}"
        )


def _chosen_leaves(table: pd.DataFrame, taxonomy: Taxonomy, count: int, seed: int) -> pd.DataFrame:
    """The pictures of `count` leaves, drawn so that every exact set of hypernyms keeps its share; all for 0.

    The first two of a set come together: alone, a leaf would have no partner to be shuffled with.
    """
    leaves = sorted(set(table["leaf"]))
    if not 0 < count < len(leaves):
        return table
    ranked = []
    for group, members in shuffle.exact_groups(taxonomy.restrict(leaves)).items():
        order = stream(seed, "few leaves", *group).permutation(len(members))
        for place, at in enumerate(order):
            share = (0.5 if place < 2 else place + 0.5) / len(members)
            ranked.append((share, group, place, members[at]))
    chosen = {leaf for *_, leaf in sorted(ranked)[:count]}
    return table[table["leaf"].isin(chosen)]


def _asked(
    run: Run, table: pd.DataFrame, taxonomy: Taxonomy, prompts: tuple[str, ...]
) -> dict[str, Manifest]:
    """The questions about test pictures, those of them that are captured, and those about validation pictures.

    Completions leave the hypernym open. Closed questions ask test pictures about every hypernym; two of them about
    each picture and name are captured, one of each answer.
    """
    seed, closed = run.config.seed, bool(FORMATS[run.config.data.task].answers)

    def questions(split: str, most: int = 0) -> Manifest:
        pictures_shown = few_per_leaf(table[table["split"] == split], most, seed)
        kinds: dict[str, tuple[str, ...]] = {"hypernym": prompts}
        return items.evaluation_items(pictures_shown, taxonomy, ("hypernym",), kinds, split=split)

    captured = run.config.capture.pictures_per_leaf
    manifests = {"test": questions("test"), "capture": questions("test", captured)}
    if closed:
        manifests["capture"] = one_of_each_answer(manifests["capture"], seed)
        if (table["split"] == "validation").any():
            manifests["validation"] = questions("validation")
    return manifests


def one_of_each_answer(manifest: Manifest, seed: int) -> Manifest:
    """Of the questions about a picture or a name, one answered Yes and one answered No: a seeded draw."""
    frame = manifest.frame.astype(str)
    rank = [
        stream(seed, "captured question", *row).random()
        for row in zip(frame["leaf"], frame["picture"], frame["hypernym"], strict=True)
    ]
    order = np.argsort(rank, kind="stable")
    rows = frame.iloc[order].drop_duplicates(["modality", "picture", "leaf", "answer"])
    return manifest.with_step(rows, operation="one_of_each_answer", seed=seed)
