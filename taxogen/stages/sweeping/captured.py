"""Questions of captured activations: every run of a plan captures the spans and steps that they name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from taxogen.runs.config import Config
from taxogen.stages.train import resolve_steps

QUESTIONS = ("layer-probes", "cohesion", "geometry", "text-alignment")
"""Those that are answered from captures; others run the model, at any span."""


def refuse_uncaptured(question: str, options: Mapping[str, Any], runs: Iterable[Config]) -> None:
    """Refuses a span or a step that a run does not capture.

    Raises:
        ValueError: the question names one; the run and what it captures are named.
    """
    if question not in QUESTIONS:
        return
    spans, steps = ([str(one) for one in _listed(options.get(name))] for name in ("span", "step"))
    if wrong := [step for step in steps if step != "last" and not step.isdigit()]:
        raise ValueError(f"{question} is asked of step {wrong[0]!r}; give the number of a step, or last")
    for run in runs:
        pooled = [span.partition(":") for span in run.capture.spans]
        known = [
            span for span, _, pooling in pooled if pooling != "all"
        ]  # of single tokens there is no one row
        if missing := [span for span in spans if span not in known]:
            raise ValueError(
                f"{question} is asked at span {missing[0]!r}, but {run.name} captures "
                f"{', '.join(known) or 'single tokens'}; add it to capture.spans, or leave it out"
            )
        at = _steps(run)
        if at and (missing := [step for step in steps if step != "last" and int(step) not in at]):
            raise ValueError(
                f"{question} is asked of step {missing[0]}, but {run.name} captures {', '.join(map(str, at))}; "
                "add it to capture.at, or leave it out"
            )


def _steps(run: Config) -> tuple[int, ...]:
    """The steps that a run captures; none where their number follows from pictures that are not counted yet."""
    if run.model.vlm:
        return (0,)
    return resolve_steps(run.capture.at, run.train.steps) if run.train.steps else ()


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]
