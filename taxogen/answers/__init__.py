"""Answers of trained models: read-outs, their scores on disk, baselines and thresholds."""

from __future__ import annotations

from collections.abc import Mapping

from taxogen.answers.completion import Completions
from taxogen.answers.readout import Readout
from taxogen.answers.yes_no import YesNo

__all__ = ["READOUTS", "Readout", "readout_about"]

READOUTS: Mapping[str, type[Readout]] = {kind.format: kind for kind in (Completions, YesNo)}
"""The read-out of each format of questions (`data.task`, `taxogen.questions.prompts.FORMATS`)."""


def readout_about(about: str) -> type[Readout]:
    """The read-out that scores came from, by the text that they carry (`Scores.about`).

    Raises:
        KeyError: no read-out has this text; lists the known ones.
    """
    for kind in READOUTS.values():
        if kind.about == about:
            return kind
    known = "; ".join(kind.about for kind in READOUTS.values())
    raise KeyError(f"scores are of the unknown read-out {about!r}; known: {known}")
