"""Scores: the read-outs of one run and the rows they belong to, as `scores.h5`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

import h5py
import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from probing.store import records
from taxogen.runs.run import Run

ABOUT = "read-outs in nats: log P(answer | subject) minus its mean over baseline subjects"
Pair = tuple[Float[np.ndarray, "pictures hypernyms"], Float[np.ndarray, "leaves hypernyms"]]


@dataclass(frozen=True)
class Scores:
    """Read-outs of one run, in nats, with the rows they belong to.

    Attributes:
        image: table of the test pictures, one row per line of the scores: item_id, picture, leaf, shown_leaf, named:
            the name that the model prefers among the choices.
        text: table of the text rows, one per leaf concept.
        hypernyms: names of the columns.
        image_scores: of completions log P(hypernym | picture) minus the mean over training pictures, of yes/no
            questions logit(Yes) − logit(No). NaN in the rows that do not count.
        text_scores: the same for names; for completions minus the mean over neutral subjects.
        leaf_correct: whether the model prefers the right name among the choices, per test picture.
        leaf_choices: how many names it chose from; chance is one in that number.
        counted: which pictures the scores rest on: all, but in an across-matched world only those of leaves that the
            model names correctly. The others keep their rows, so that runs stay paired by leaf.
        about: the meaning of a read-out.
        asked: the settings of `evaluate` that it answers; empty where they were not stored.
        apart: where several templates were asked, the picture and text scores of each, whose means stand above.
        thresholds: of yes/no questions the read-out of each hypernym above which Yes is likelier right, fit on
            validation pictures.
        raw: the picture scores of all rows.
    """

    image: pd.DataFrame
    text: pd.DataFrame
    hypernyms: tuple[str, ...]
    image_scores: Float[np.ndarray, "pictures hypernyms"]
    text_scores: Float[np.ndarray, "leaves hypernyms"]
    leaf_correct: np.ndarray
    leaf_choices: int
    counted: Bool[np.ndarray, " pictures"] | None = None
    about: str = ABOUT
    asked: str = ""
    apart: Mapping[str, Pair] = field(default_factory=dict)
    thresholds: Float[np.ndarray, " hypernyms"] | None = None
    raw: Float[np.ndarray, "pictures hypernyms"] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "raw", self.image_scores)
        if self.counted is not None and not self.counted.all():
            masked = np.where(self.counted[:, None], self.image_scores, np.nan)
            object.__setattr__(self, "image_scores", masked)

    @property
    def calibrated(self) -> Float[np.ndarray, "pictures hypernyms"]:
        """The picture scores with Yes beginning at 0; as they are where there are no thresholds."""
        return self.image_scores if self.thresholds is None else self.image_scores - self.thresholds

    def write(self, path: Path, made_from: Mapping[str, str]) -> None:
        """Writes a file that `read` reads, whole or not at all, with the record of what it was made from."""
        records.write(path, self._fill, made_from)

    def _fill(self, path: Path) -> None:
        with h5py.File(path, "w", track_order=True) as out:
            text = h5py.string_dtype()
            out.attrs["about"], out.attrs["asked"] = self.about, self.asked
            out.create_dataset("hypernyms", data=list(self.hypernyms), dtype=text)
            for name, table, scores in (
                ("image", self.image, self.raw),
                ("text", self.text, self.text_scores),
            ):
                group = out.create_group(name)
                group.create_dataset("score", data=scores.astype(np.float32))
                for column in table.columns:
                    group.create_dataset(column, data=table[column].astype(str).tolist(), dtype=text)
            correct = out.create_dataset("image/leaf_correct", data=self.leaf_correct)
            correct.attrs["choices"] = self.leaf_choices
            if self.counted is not None and not self.counted.all():
                out.create_dataset("image/counted", data=self.counted)
            if self.thresholds is not None:
                out.create_dataset("thresholds", data=self.thresholds)
            for prompt, pair in self.apart.items():
                for name, scores in zip(("image", "text"), pair, strict=True):
                    out.create_dataset(f"templates/{prompt}/{name}", data=scores.astype(np.float32))

    @classmethod
    def read(cls, run: Run) -> Scores:
        """The scores of a run.

        Raises:
            FileNotFoundError: it was not evaluated; the command is named.
            DamagedError: the file is not as it was written.
            MismatchError: they are scores of another run or projector.
        """
        path, remedy = run.file("scores.h5"), f"`python -m taxogen evaluate --run {run.path}` makes it"
        if not path.is_file():
            raise FileNotFoundError(f"the run {run.path} has no scores.h5; {remedy}")
        run.require_made_here(path, f"{remedy} again")
        with h5py.File(path) as stored:
            tables = {name: _text_columns(cast(h5py.Group, stored[name])) for name in ("image", "text")}
            arrays = {
                name: _array(stored, name) for name in ("image/score", "text/score", "image/leaf_correct")
            }
            choices = cast(int, cast(h5py.Dataset, stored["image/leaf_correct"]).attrs["choices"])
            apart = list(cast(h5py.Group, stored["templates"])) if "templates" in stored else []
            return cls(
                tables["image"],
                tables["text"],
                tuple(cast(h5py.Dataset, stored["hypernyms"]).asstr()[:]),
                arrays["image/score"],
                arrays["text/score"],
                arrays["image/leaf_correct"],
                int(choices),
                counted=_array(stored, "image/counted") if "image/counted" in stored else None,
                about=str(stored.attrs["about"]),
                asked=str(stored.attrs.get("asked", "")),
                apart={str(name): _pair(stored, str(name)) for name in apart},
                thresholds=_array(stored, "thresholds") if "thresholds" in stored else None,
            )

    def of_template(self, name: str) -> Scores:
        """The scores of one of several templates.

        Raises:
            KeyError: the run was not scored with it apart; the templates that it was are named.
        """
        if name not in self.apart:
            raise KeyError(
                f"scores of template {name!r} were asked for; apart are: {', '.join(self.apart) or 'none'}; "
                "evaluate.templates names the templates"
            )
        image, text = self.apart[name]
        return replace(self, image_scores=image, text_scores=text, apart={}, thresholds=None)


def _array(stored: h5py.Group, name: str) -> np.ndarray:
    return cast(h5py.Dataset, stored[name])[:]


def _pair(stored: h5py.Group, prompt: str) -> Pair:
    return _array(stored, f"templates/{prompt}/image"), _array(stored, f"templates/{prompt}/text")


def _text_columns(group: h5py.Group) -> pd.DataFrame:
    columns = {name: cast(h5py.Dataset, data) for name, data in group.items()}
    return pd.DataFrame({k: v.asstr()[:] for k, v in columns.items() if h5py.check_string_dtype(v.dtype)})


def candidates(scores: Scores, top: int) -> list[Sequence[str]]:
    """For each test picture the hypernyms with the highest read-outs, best first."""
    order = np.argsort(-scores.image_scores, axis=1, kind="stable")[:, :top]
    return [[scores.hypernyms[column] for column in row] for row in order]
