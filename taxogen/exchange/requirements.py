"""Requirements: the settings of a run that LLaVA has no counterpart for, and those to train another run with."""

from __future__ import annotations

import math
from operator import attrgetter
from typing import Any

from transformers import AutoConfig

from taxogen.exchange.projection import EXPRESSED
from taxogen.exchange.towers import FALLBACK, has_class
from taxogen.models import lms, weights
from taxogen.runs.run import Run


def require_expressible(run: Run) -> None:
    """Refuses a run that no LLaVA computes as it does.

    Raises:
        ValueError: settings stand in the way; all are named, and the command that trains an exportable run. Or nothing
            was trained in it.
        FileNotFoundError: the run is not prepared, or its language model is not there.
    """
    if run.config.model.vlm:
        raise ValueError(
            f"{run.path} cannot be exported: it holds the answers of a released model, and nothing was trained; "
            f"transformers opens {run.config.model.vlm} as it is"
        )
    needed = instead(run)
    if not needed:
        return
    settings = " ".join(f"--set {key}={_spelled(value)}" for key, value in needed.items())
    has = ", ".join(f"{key}={_spelled(attrgetter(key)(run.config))}" for key in needed)
    raise ValueError(
        f"{run.path} cannot be exported: LLaVA has no counterpart of {has}; train another run, with its settings and "
        f"`{settings}` (`taxoprobe train --out FOLDER …`)"
    )


def instead(run: Run) -> dict[str, Any]:
    """Setting → the value that an exportable run has, for each setting of a closed run that LLaVA cannot express.

    LLaVA maps every token of the encoder's grid by itself, through Linear–activation–Linear of the language model's
    width, and puts the result into the language model as it is: no pooling, no joining, no norm.
    """
    model, needed = run.config.model, {}
    tokens = math.prod(run.world["encoder"]["grid"])
    if not has_class(model.encoder):
        needed["model.encoder"], tokens = FALLBACK
    if model.projector not in EXPRESSED:
        needed["model.projector"] = "gelu-mlp"
    if model.projector != "linear" and model.hidden > _width(model.lm):
        needed["model.hidden"] = 0
    for key, value in (("encoder_tokens", tokens), ("image_tokens", tokens), ("normalise", False)):
        if getattr(model, key) != value:
            needed[f"model.{key}"] = value
    return needed


def _spelled(value: Any) -> str:
    """The value of a setting as the command line takes it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _width(lm: str) -> int:
    """The width of a language model, from its configuration alone."""
    source = lms.folder_of(lm)
    with weights.fetching("language model", source, lms.EMBEDDED):
        return AutoConfig.from_pretrained(source).get_text_config().hidden_size
