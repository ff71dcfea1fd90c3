"""Relations: settings that count only beside certain values of others; refused where they would do nothing."""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING

from taxogen.models.grids import joined_side
from taxogen.runs.setting import check_known, shown

if TYPE_CHECKING:
    from taxogen.runs.config import Config

WITHOUT_HIDDEN = ("linear", "flat-linear")
"""The projectors without a hidden layer, for which `model.hidden` decides nothing."""

TRAINED_HERE = (
    "data.ablation",
    "data.fraction",
    "data.held_out",
    "data.rule",
    "data.shuffle",
    "data.coherence",
    "model.encoder",
    "model.encoder_tokens",
    "model.lm",
    "model.init",
    "model.projector",
    "model.hidden",
    "model.image_tokens",
    "model.standardise",
    "model.normalise",
    "model.token_scale",
)
"""Settings that decide nothing of a released model (`model.vlm`), beside those of training."""

OF_EACH_TOKEN = ("linear", "gelu-mlp", "fused-gelu-mlp")
"""The projectors that map encoder tokens one by one."""


def check(config: Config) -> None:
    """Refuses a config whose settings contradict each other, or in which a setting would do nothing.

    Raises:
        ValueError: a setting would do nothing, or one is missing, or encoder tokens do not give the image tokens; the
            message names the other that matters.
        KeyError: an ablation has no such rule.
    """
    from taxogen.questions.ablation import RULES
    from taxogen.questions.items import prompts_of

    data, model = config.data, config.model
    _refuse_idle(config)
    if model.projector in OF_EACH_TOKEN:
        joined_side(model.encoder_tokens, model.image_tokens, model.projector)
    if data.rule:
        rules = dict.fromkeys((*RULES[data.ablation], "study"))
        check_known("data.rule", data.rule, rules, f" with data.ablation={data.ablation}")
    if data.ablation == "systematic" and not data.held_out and data.fraction == 1:
        raise ValueError(
            "data.ablation=systematic was asked for without data.held_out: name hypernyms, or give data.fraction "
            "below 1 for a seeded draw of them"
        )
    for key, templates in (("data", data.templates), ("evaluate", config.evaluate.templates)):
        try:
            prompts_of(data.task, templates)
        except ValueError as error:
            raise ValueError(f"config key '{key}.templates': {error}") from None
    spans = [span.partition(":")[0] for span in config.capture.spans]
    if twice := [span for span in spans if spans.count(span) > 1]:
        raise ValueError(
            f"config key 'capture.spans' takes one pooling of a span, found {twice[0]!r} twice in "
            f"{', '.join(config.capture.spans)}"
        )


def _refuse_idle(config: Config) -> None:
    """Raise a ValueError where a setting differs from its default, but counts for nothing beside another."""
    from taxogen.questions.prompts import FORMATS
    from taxogen.runs.config import catalogue

    data, by_epochs = config.data, config.train.steps == 0
    drawn = data.ablation == "random" or (data.ablation == "systematic" and not data.held_out)
    counts = {
        "data.negatives": (bool(FORMATS[data.task].answers), "data.task", "yes_no"),
        "data.held_out": (data.ablation == "systematic", "data.ablation", "systematic"),
        "data.fraction": (drawn, "data.ablation", "random, or systematic without data.held_out"),
        "data.coherence": (data.shuffle == "graded", "data.shuffle", "graded"),
        "train.epochs": (by_epochs, "train.steps", "0"),
        "train.match_steps": (by_epochs, "train.steps", "0"),
        "model.hidden": (
            config.model.projector not in WITHOUT_HIDDEN,
            "model.projector",
            "one with a hidden layer",
        ),
        "model.token_scale": (config.model.normalise, "model.normalise", "true"),
        "model.picture_side": (bool(config.model.vlm), "model.vlm", "a released model"),
    }
    if config.model.vlm:
        learned = [key for key in catalogue() if key.startswith("train.")]
        counts |= {
            key: (False, "model.vlm", "'' (nothing of it is learned)") for key in (*TRAINED_HERE, *learned)
        }
    for key, (does, other, wanted) in counts.items():
        value = attrgetter(key)(config)
        if not does and value != catalogue()[key].default:
            raise ValueError(
                f"config key {key!r} counts only with {other}={wanted}, found {key}={shown(value)} with "
                f"{other}={attrgetter(other)(config)}: change one, or leave {key} out"
            )
