"""Drawn configs: random settings, right and wrong ones mixed; a run is refused, or it is what its config says."""

from __future__ import annotations

import json
import math
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from numpy.random import Generator
from safetensors.numpy import load_file

from probing.store import ActivationStore
from taxogen.models.features import cache
from taxogen.questions.prompts import TEMPLATES
from taxogen.runs import config
from taxogen.world import shuffle
from tests.taxogen.drawn.scene import command, settings
from tests.taxogen.drawn.worlds import one

SHORT = (
    *("train.steps=2", "train.batch=4", "train.snapshots=0,last", "capture.at=last"),
    *("capture.sites=hook_embed", "capture.pictures_per_leaf=1"),
)
VALUES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "seed": (("0", "3", "4294967296"), ("-1", "1.5", "true", "9223372036854775808")),
    "name": (("x", "study-seed=0"), ("a/b", ".x", "")),
    "data.task": (("completion", "yes_no"), ("riddle", "")),
    "data.templates": (
        ("kind", "type,kind", "called,known_as", "is_there"),
        ("riddle", "kind,kind", "study,kind"),
    ),
    "data.chat": (("true", "false"), ("yes", "1")),
    "data.negatives": (("random", "hard", "study"), ("soft",)),
    "data.split": (("seeded", "study", "leaf", "source"), ("thirds",)),
    "data.leaves": (("0", "6", "4", "100"), ("1", "-3", "2.5")),
    "data.pictures_per_leaf": (("0", "4", "6"), ("1", "-1", "two")),
    "data.ablation": (("none", "random", "systematic", "full"), ("lesion",)),
    "data.fraction": (("0", "0.25", "0.5", "1"), ("1.5", "-0.1", "nan")),
    "data.rule": (("pair", "leaf", "holdout", "study"), ("sideways",)),
    "data.held_out": (("bird", "fruit,vegetable"), ("fish", "bird,bird")),
    "data.shuffle": (shuffle.KINDS, ("sideways",)),
    "data.coherence": (("0.3", "0.6", "1", "0.05"), ("2",)),
    "model.init": (("pretrained", "random", "pretrained-embeddings"), ("borrowed",)),
    "model.projector": (
        ("flat-gelu-mlp", "flat-linear", "gelu-mlp", "linear", "fused-gelu-mlp"),
        ("spline", "flat-"),
    ),
    "model.hidden": (("8", "24", "0"), ("-4", "2.5")),
    "model.standardise": (("true", "false"), ("1",)),
    "model.normalise": (("true", "false"), ("rms",)),
    "model.token_scale": (("0", "0.5"), ("-1", "nan")),
    "model.image_tokens": (("1", "3"), ("0",)),
    "model.encoder_tokens": (("1", "4"), ("0", "3", "9")),
    "model.dtype": (("float32", "float64", "bfloat16"), ("float7",)),
    "model.feature_dtype": (("float32", "bfloat16", "float16"), ("float64", "auto")),
    "train.steps": (("1", "3", "5"), ("-1", "2.5")),
    "train.epochs": (("0.1", "0.02"), ("0", "inf")),
    "train.match_steps": (("true", "false"), ("maybe",)),
    "train.batch": (("1", "5", "500"), ("0",)),
    "train.lr": (("0.01", "3e-4"), ("0", "-1", "1e400")),
    "train.weight_decay": (("0", "0.1"), ("-1",)),
    "train.warmup": (("0", "0.5", "0.9"), ("1", "-0.1")),
    "train.clip": (("0.5", "2"), ("0", "nan")),
    "train.snapshots": (("last", "0,1,last", "9"), ("often", "1.5", "01")),
    "train.checkpoint_seconds": (("0", "5"), ("-1",)),
    "train.track": (("none",), ("mlflow",)),
    "capture.at": (("last", "0,last", "1", "100"), ("soon", "-1")),
    "capture.sites": (
        ("blocks.*.hook_resid_post", "hook_embed,ln_final.hook_normalized"),
        ("attention", "blocks.9.hook_mlp_out", ""),
    ),
    "capture.spans": (("slot", "cue:last", "slot:all,last"), ("verb", "cue,cue:last", "cue:max")),
    "capture.dtype": (("float16", "float32", "bfloat16"), ("int8",)),
    "capture.pictures_per_leaf": (("0", "1", "2"), ("-1",)),
    "evaluate.templates": (("kind", "kind,type", "is_a", "is_there"), ("riddle", "study,kind")),
    "evaluate.leaf_choices": (("2", "4", "50"), ("1",)),
    "evaluate.pictures_per_leaf": (("0", "1"), ("-1",)),
}
"""Key → values that it takes by itself, and values that it never takes."""
BESIDE = {
    "data.negatives": "data.task=yes_no",
    "data.chat": "data.task=yes_no",
    "data.fraction": "data.ablation=random",
    "data.rule": "data.ablation=random",
    "data.held_out": "data.ablation=systematic",
    "data.coherence": "data.shuffle=graded",
    "train.epochs": "train.steps=0",
    "train.match_steps": "train.steps=0",
    "model.projector": "model.image_tokens=1",
    "model.token_scale": "model.normalise=true",
}
"""Key → a setting beside which it counts, which is drawn with it mostly."""


def draw(rng: Generator) -> dict[str, str]:
    """Two to four drawn settings, one in ten of them wrong by itself, and what some count beside."""
    keys = [list(VALUES)[int(at)] for at in rng.permutation(len(VALUES))[: int(rng.integers(2, 5))]]
    drawn = {key: one(rng, VALUES[key][int(rng.random() < 0.1)]) for key in keys}
    for key in keys:
        if key in BESIDE and rng.random() < 0.8:
            other, _, value = BESIDE[key].partition("=")
            drawn.setdefault(other, value)
    return drawn


def judged(number: int, before: object) -> tuple[list[str], str]:
    """A drawn config, and what came of it: `right`, `refused: …` or `WRONG: …`."""
    rng = np.random.default_rng([12, 3, number])
    drawn, given = draw(rng), json.loads(Path("settings.json").read_text())
    words = [f"{key}={value}" for key, value in drawn.items()]
    with pytest.MonkeyPatch.context() as patch:
        encoded = _counted(patch)
        answer = command("train", "--run", "new", *given, *settings(SHORT), *settings(words))
    if answer.code == 2:
        left = sorted(path.name for path in Path("new").rglob("*")) if Path("new").exists() else []
        said = "; ".join(answer.refusal)
        named = [
            part for key, value in drawn.items() for part in (key, key.split(".")[-1], *value.split(","))
        ]
        if (
            not answer.refused
            or set(left) - {"run.lock"}
            or encoded
            or not any(part in said for part in named if part)
        ):
            return words, f"WRONG: {left} is left, {len(encoded)} batches encoded: {answer.said}"
        return words, f"refused: {said}"
    if answer.code:
        return words, f"WRONG: exit code {answer.code}: {answer.said}"
    answer = command("evaluate", "--run", "new")
    if answer.code:
        return words, f"WRONG: trained, and not scored: {answer.said}"
    wanted = config.read(None, [*given[1::2], *SHORT, *words])
    wrong = Deviations(Path("new"), drawn, wanted).all()
    return words, f"WRONG: {'; '.join(wrong)}" if wrong else "right"


def _counted(patch: pytest.MonkeyPatch) -> list[object]:
    """A list that grows by one with each batch of pictures that is encoded."""
    calls, encode = [], cache._encode

    def counted(*given):
        calls.append(given)
        return encode(*given)

    patch.setattr(cache, "_encode", counted)
    return calls


class Deviations:
    """In what a trained and scored run is not what its config says, in words."""

    def __init__(self, run: Path, drawn: dict[str, str], wanted: config.Config) -> None:
        self.run, self.drawn, self.config = run, drawn, wanted
        self.record, self.world = self._json("run.json"), self._json("world.json")
        self.pictures = pd.read_csv(run / "pictures.csv", dtype=str, keep_default_na=False)
        self.items = {name: self._items(name) for name in self.world["manifests"]}
        self.curve = pd.read_csv(run / "training.csv")
        self.wrong: list[str] = []

    def all(self) -> list[str]:
        for look in (self._settings, self._pictures, self._names, self._questions, self._evidence):
            look()
        for look in (self._training, self._models, self._captures, self._scores):
            look()
        return self.wrong

    def _json(self, name: str) -> dict:
        return json.loads((self.run / name).read_text(encoding="utf-8"))

    def _items(self, name: str) -> pd.DataFrame:
        return pd.read_csv(self.run / f"{name}.csv", dtype=str, keep_default_na=False)

    def _same(self, what: str, found: object, wanted: object) -> None:
        if found != wanted:
            self.wrong.append(f"{what}: {found}, and not {wanted}")

    def _settings(self) -> None:
        stored = self._json("config.json")
        self._same("config.json", stored, json.loads(json.dumps(self.config.to_dict())))
        for key, text in self.drawn.items():
            value = stored
            for part in key.split("."):
                value = value[part]
            if isinstance(value, bool):
                self._same(key, value, text == "true")
            elif isinstance(value, list):
                self._same(key, value, text.split(","))
            else:
                self._same(key, value, type(value)(text))

    def _pictures(self) -> None:
        data, counts = self.config.data, self.pictures["shown_leaf"].value_counts()
        left_out = self.world["left_out"]
        self._same("leaves", len(counts) + len(left_out), min(data.leaves or 11, 11))
        self._same("leaves that are left out and shown", set(left_out) & set(counts.index), set())
        self._same("shuffles that leave leaves out", bool(left_out) and data.shuffle != "category", False)
        for leaf, count in counts.items():
            there = len(list(Path("pictures", str(leaf)).iterdir()))
            self._same(f"pictures of {leaf}", count, min(data.pictures_per_leaf or there, there))

    def _names(self) -> None:
        names, kind = self._json("leaf_map.json"), self.config.data.shuffle
        pairs = zip(self.pictures["shown_leaf"], self.pictures["leaf"], strict=True)
        self._same("names of pictures", [names[shown] for shown, _ in pairs], self.pictures["leaf"].tolist())
        self._same("names", sorted(names), sorted(names.values()))
        kept = [leaf for leaf, name in names.items() if leaf == name]
        self._same("leaves that keep their names", kept, sorted(names) if kind == "none" else [])
        hypernyms = pd.read_csv("taxonomy.csv").groupby("leaf")["hypernym"].agg(set)
        shared = {leaf for leaf, name in names.items() if hypernyms[leaf] & hypernyms[name]}
        if kind == "within":
            self._same("leaves that keep a hypernym", shared, set(names))
        if kind in ("category", "across", "across-matched"):
            self._same("leaves that share a hypernym with their name", shared, set())

    def _questions(self) -> None:
        data, provenance = self.config.data, self.record["provenance"]
        default = {"leaf": ["called"], "hypernym": ["kind"]}
        if data.task == "yes_no":
            default = {"leaf": ["is_there_leaf"], "hypernym": ["is_there"]}
        for task, names in default.items():
            names = sorted(name for name in data.templates if TEMPLATES[name].task == task) or names
            asked = self.items["train"].query("task == @task")["prompt"]
            if len(asked):
                self._same(f"templates of {task} questions", sorted(asked.unique()), names)
        wording = self._json("prompts.json").popitem()[1]["text"]["text"]
        self._same(f"whether {wording!r} is a chat", "user" in wording, data.chat)
        self._same("negatives", provenance[0]["negatives"], data.negatives)
        few = self.items["capture"].query("modality == 'image'").groupby("leaf")["picture"].nunique()
        tested = self.pictures.query("split == 'test'").groupby("leaf")["picture"].nunique()
        most = self.config.capture.pictures_per_leaf or math.inf
        self._same("captured pictures", few.to_dict(), tested.clip(upper=most).astype(int).to_dict())

    def _evidence(self) -> None:
        data, step = self.config.data, self.record["provenance"][-1]
        asked = {"kind": data.ablation, "fraction": data.fraction, "seed": self.config.seed}
        self._same("ablation", {name: step[name] for name in asked}, asked)
        left = set(self.items["train"].query("task == 'hypernym'")["hypernym"])
        if data.ablation == "full":
            self._same("hypernyms that are left", left, set())
        if data.held_out and step["rule"] == "holdout":
            self._same("held out hypernyms", step["held_out"], sorted(data.held_out))
            self._same("held out hypernyms that are left", left & set(data.held_out), set())
        if data.ablation == "none":
            self._same("training items", len(self.items["train"]), self.world["asked"])

    def _training(self) -> None:
        train, rows = self.config.train, len(self.items["train"])
        counted = self.world["asked"] if train.match_steps else rows
        steps = train.steps or max(1, math.ceil(train.epochs * counted / train.batch))
        self._same("steps", (len(self.curve), self.record["steps"]), (steps, steps))
        first = train.lr / max(1, round(train.warmup * steps))
        self._same("first rate", round(float(self.curve["lr"][0]), 12), round(first, 12))
        captured = {min(steps, steps if name == "last" else int(name)) for name in self.config.capture.at}
        saved = {min(steps, steps if name == "last" else int(name)) for name in train.snapshots}
        found = {int(path.stem.removeprefix("step-")) for path in self.run.glob("projector/*.safetensors")}
        self._same("snapshots", found, saved | captured | {steps})
        found = {int(path.name.removeprefix("step-")) for path in self.run.glob("captures/step-*")}
        self._same("captured steps", found, captured)

    def _models(self) -> None:
        model, lm = self.config.model, self.world["lm"]
        self._same("init", lm["init"], model.init)
        self._same("dtype", (lm["dtype"], self.record["dtype"]), (model.dtype, model.dtype))
        path = max(self.run.glob("projector/*.safetensors"))
        shapes = {name: value.shape for name, value in load_file(path).items() if name.endswith("weight")}
        flat = model.projector.startswith("flat-")
        inputs = 16 * model.encoder_tokens // (1 if flat else model.image_tokens)
        outputs = 32 * (model.image_tokens if flat else 1)
        usual = 4 * inputs if model.projector.startswith("fused") else 32
        layers = [inputs, model.hidden or usual, outputs]
        if model.projector.endswith("linear"):
            del layers[1]
        layers += [outputs] * model.projector.startswith("fused")
        self._same("projector", sorted(shapes.values()), sorted(zip(layers[1:], layers[:-1])))

    def _captures(self) -> None:
        wanted = self.config.capture
        blocks = {"blocks.*.hook_resid_post": ["blocks.0.hook_resid_post", "blocks.1.hook_resid_post"]}
        sites = [site for name in wanted.sites for site in blocks.get(name, [name])]
        pooled = {span.partition(":")[0]: span.partition(":")[2] or "mean" for span in wanted.spans}
        for folder in self.run.glob("captures/*"):
            store = ActivationStore.open(folder)
            slot = "noun" if folder.name == "text" else "image"
            spans = {slot if name == "slot" else name: pooling for name, pooling in pooled.items()}
            self._same(f"{folder.name}: sites", sorted(map(str, store.sites)), sorted(sites))
            self._same(f"{folder.name}: spans", dict(store.pooling), spans)
            self._same(f"{folder.name}: dtype", store.dtype, wanted.dtype)

    def _scores(self) -> None:
        wanted = self.config.evaluate
        with h5py.File(self.run / "scores.h5") as stored:
            choices = int(stored["image/leaf_correct"].attrs["choices"])
            shown = [name.decode() for name in stored["image/shown_leaf"][:]]
            apart = sorted(stored["templates"]) if "templates" in stored else []
        leaves = self.pictures["leaf"].nunique()
        self._same("choices", choices, min(wanted.leaf_choices, leaves))
        tested = self.pictures.query("split == 'test'")["shown_leaf"].value_counts()
        most = wanted.pictures_per_leaf or math.inf
        counts = pd.Series(shown).value_counts().to_dict()
        self._same("scored pictures", counts, tested.clip(upper=most).astype(int).to_dict())
        named = [name for name in wanted.templates if TEMPLATES[name].task == "hypernym"]
        named = (
            named or [name for name in self.config.data.templates if TEMPLATES[name].task == "hypernym"][:1]
        )
        self._same("templates apart", apart, sorted(named) if len(named) > 1 else [])
