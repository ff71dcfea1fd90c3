"""Evaluate: how likely a trained model finds every hypernym for every test picture; raw scores go to `scores.h5`.

The read-out is log P(answer | picture) minus its mean over pictures of the training split (a sample of different
leaves): what the picture adds to the prompt. Beside it stands the ceiling, the same prompt with the leaf's name.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import h5py
import numpy as np
import pandas as pd
from jaxtyping import Float
from torch import Tensor

from taxogen import files, prompts
from taxogen.questions import PROMPTS
from taxogen.readout import log_probs
from taxogen.run import Run
from taxogen.seeding import stream
from taxogen.vlm import Row, Vlm

(LEAF_PROMPT,), (HYPERNYM_PROMPT,) = PROMPTS["leaf"], PROMPTS["hypernym"]
BASELINE_PICTURES = {HYPERNYM_PROMPT: 64, LEAF_PROMPT: 16}  # fewer for names: all of them are scored for each


@dataclass(frozen=True)
class Scores:
    """Read-outs of one run, in nats, with the rows they belong to.

    Attributes:
        image: table of the test pictures (item_id, picture, leaf, shown_leaf), one row per line of the scores.
        text: table of the text rows, one per leaf concept.
        hypernyms: names of the columns.
        image_scores: log P(hypernym | picture) minus the mean over training pictures.
        text_scores: log P(hypernym | name) minus the mean over neutral subjects.
        leaf_correct: whether the model prefers the right name among the choices, per test picture.
        leaf_choices: how many names it chose from; chance is one in that number.
    """

    image: pd.DataFrame
    text: pd.DataFrame
    hypernyms: tuple[str, ...]
    image_scores: Float[np.ndarray, "pictures hypernyms"]
    text_scores: Float[np.ndarray, "leaves hypernyms"]
    leaf_correct: np.ndarray
    leaf_choices: int

    def write(self, run: Run) -> None:
        """Writes `scores.h5` into the run, whole or not at all."""
        files.write_whole(run.file("scores.h5"), lambda part: self._fill(part))

    def _fill(self, path) -> None:
        with h5py.File(path, "w", track_order=True) as out:
            out.attrs["about"] = (
                "read-outs in nats: log P(answer | subject) minus its mean over baseline subjects"
            )
            out.create_dataset("hypernyms", data=list(self.hypernyms), dtype=h5py.string_dtype())
            for name, table, scores in (
                ("image", self.image, self.image_scores),
                ("text", self.text, self.text_scores),
            ):
                group = out.create_group(name)
                group.create_dataset("score", data=scores.astype(np.float32))
                for column in table.columns:
                    group.create_dataset(
                        column, data=table[column].astype(str).tolist(), dtype=h5py.string_dtype()
                    )
            correct = out.create_dataset("image/leaf_correct", data=self.leaf_correct)
            correct.attrs["choices"] = self.leaf_choices

    @classmethod
    def read(cls, run: Run) -> Scores:
        """The scores of a run.

        Raises:
            FileNotFoundError: it was not evaluated; the command is named.
        """
        path = run.file("scores.h5")
        if not path.is_file():
            raise FileNotFoundError(
                f"the run {run.path} has no scores.h5; `python -m taxogen evaluate --run {run.path}` makes it"
            )
        with h5py.File(path) as stored:
            tables = {name: _text_columns(cast(h5py.Group, stored[name])) for name in ("image", "text")}
            arrays = {name: cast(h5py.Dataset, stored[name])[:] for name in ("image/score", "text/score")}
            correct = cast(h5py.Dataset, stored["image/leaf_correct"])
            return cls(
                tables["image"],
                tables["text"],
                tuple(cast(h5py.Dataset, stored["hypernyms"]).asstr()[:]),
                arrays["image/score"],
                arrays["text/score"],
                correct[:],
                int(cast(int, correct.attrs["choices"])),
            )


def _text_columns(group: h5py.Group) -> pd.DataFrame:
    columns = {name: cast(h5py.Dataset, data) for name, data in group.items()}
    return pd.DataFrame({k: v.asstr()[:] for k, v in columns.items() if h5py.check_string_dtype(v.dtype)})


def evaluate(run: Run, vlm: Vlm, features: Tensor, picture_index: dict[str, int]) -> Scores:
    """Scores every hypernym for every test picture and every leaf's name, and names the leaf among a few choices."""
    frame = run.manifest("test").where(modality="image").frame.astype(str)
    baseline = _baseline_rows(run, vlm, picture_index)
    hypernyms = run.taxonomy.hypernyms
    asked = [vlm.tokens(prompts.segments(HYPERNYM_PROMPT, hypernym=name).answer) for name in hypernyms]
    kinds = [_row(vlm, HYPERNYM_PROMPT, item, picture_index) for item in frame.itertuples()]
    image = log_probs(vlm, kinds, features, asked, what="hypernyms of pictures")
    image -= log_probs(vlm, baseline[HYPERNYM_PROMPT], features, asked, what="hypernyms of baseline").mean(0)
    leaves = run.taxonomy.leaves
    text = log_probs(
        vlm, [_text_row(vlm, leaf) for leaf in leaves], features, asked, what="hypernyms of names"
    )
    text -= log_probs(
        vlm, [_text_row(vlm, word) for word in prompts.NEUTRAL], features, asked, what="neutral"
    ).mean(0)
    choices = min(run.config.evaluate.leaf_choices, len(leaves))
    correct = _leaf_naming(
        vlm, frame, features, (baseline[LEAF_PROMPT], picture_index, leaves, choices, run.config.seed)
    )
    return Scores(
        frame[["item_id", "picture", "leaf", "shown_leaf"]].reset_index(drop=True),
        pd.DataFrame({"leaf": leaves}),
        hypernyms,
        image,
        text,
        correct,
        choices,
    )


def _leaf_naming(vlm: Vlm, frame: pd.DataFrame, features: Tensor, how: tuple) -> np.ndarray:
    """Whether the right leaf has the highest read-out among it and random others, for each test picture."""
    baseline, picture_index, leaves, choices, seed = how
    names = [vlm.tokens(prompts.segments(LEAF_PROMPT, leaf=leaf).answer) for leaf in leaves]
    place = {leaf: at for at, leaf in enumerate(leaves)}
    asked = np.zeros((len(frame), len(leaves)), bool)
    for at, item in enumerate(frame.itertuples()):
        others = stream(seed, "leaf choices", str(item.picture)).permutation(len(leaves))
        asked[at, [other for other in others if other != place[item.leaf]][: choices - 1]] = True
        asked[at, place[item.leaf]] = True
    rows = [_row(vlm, LEAF_PROMPT, item, picture_index) for item in frame.itertuples()]
    scores = log_probs(vlm, rows, features, names, asked, what="names of pictures")
    scores -= log_probs(vlm, baseline, features, names, what="names of baseline").mean(0)
    return np.nanargmax(scores, 1) == frame["leaf"].map(place).to_numpy()


def _baseline_rows(run: Run, vlm: Vlm, picture_index: dict[str, int]) -> dict[str, list[Row]]:
    """Rows of a seeded sample of training pictures, at most one per leaf, for each of the two questions."""
    frame = run.manifest("train").where(task="leaf", modality="image").frame.astype(str)
    order = stream(run.config.seed, "baseline pictures").permutation(len(frame))
    sample = frame.iloc[order].drop_duplicates("leaf")
    return {
        prompt: [_row(vlm, prompt, item, picture_index) for item in sample.head(size).itertuples()]
        for prompt, size in BASELINE_PICTURES.items()
    }


def _row(vlm: Vlm, prompt: str, item, picture_index: dict[str, int]) -> Row:
    return vlm.row(item.item_id, prompts.segments(prompt), picture_index[item.picture])


def _text_row(vlm: Vlm, subject: str) -> Row:
    return vlm.row(subject, prompts.segments(HYPERNYM_PROMPT, leaf=subject, modality="text"))


def candidates(scores: Scores, top: int) -> list[Sequence[str]]:
    """For each test picture the hypernyms with the highest read-outs, best first."""
    order = np.argsort(-scores.image_scores, axis=1, kind="stable")[:, :top]
    return [[scores.hypernyms[column] for column in row] for row in order]
