"""The table of families: for every model class that transformers builds tiny here, what is captured, or the refusal."""

from __future__ import annotations

import inspect
import warnings
from dataclasses import dataclass
from pathlib import Path

import torch
import transformers as hf
from transformers import PreTrainedModel

from tests.probing.families.models import KINDS, build, classes
from tests.probing.families.oracle import Inputs, Outcome, checked, points_in_words, resolved
from tests.probing.families.pictures import picture_inputs

PAGE = Path("docs/families.md")
_NAMES = {"text": "Text", "pictures": "Pictures and text"}
_STATES = ("right", "refused", "wrong", "crash", "not checked", "not built")


@dataclass(frozen=True)
class Row:
    """One model type of one kind, and its outcome."""

    kind: str
    name: str
    outcome: Outcome


def row(kind: str, name: str) -> Row:
    """The row of one model type: built, run on tokens or pictures, one row padded on the left, and checked."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            model = build(name, kind)
        except Exception as error:  # transformers cannot build it here
            return Row(kind, name, Outcome("not built", detail=_short(error)))
        try:
            takes_pictures = (
                kind == "pictures" and "pixel_values" in inspect.signature(model.forward).parameters
            )
            inputs = picture_inputs(model) if takes_pictures else _text(model)
        except Exception:  # it does not run on what is made here
            outcome = resolved(model)
            unchecked = Outcome("not checked", outcome.points, "no input made here fits it")
            return Row(kind, name, unchecked if outcome.status == "right" else outcome)
        return Row(kind, name, checked(model, inputs))


def names(kind: str) -> list[str]:
    """Every model type of a kind, sorted."""
    return sorted(classes(kind))


def _short(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"


def _text(model: PreTrainedModel) -> Inputs:
    """Two rows of tokens, the second padded on the left.

    Raises:
        Exception: whatever the model raises that does not run on tokens.
    """
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(3, 100, (2, 8), generator=generator)
    mask = torch.ones_like(ids)
    ids[1, :2], mask[1, :2] = 0, 0
    inputs: Inputs = {"input_ids": ids, "attention_mask": mask}
    if model.config.model_type not in ("rwkv", "xlm", "xlnet"):
        inputs["use_cache"] = False
    if model.config.model_type == "mllama_text_model":
        inputs["cross_attention_states"] = torch.randn(2, 4, 32, generator=generator)
    with torch.inference_mode():
        model(**inputs)
    return inputs


def page(rows: list[Row]) -> str:
    """docs/families.md."""
    counts = "\n".join(
        f"| {_NAMES[kind]} | "
        + " | ".join(str(sum(r.kind == kind and r.outcome.status == s for r in rows)) for s in _STATES)
        + " |"
        for kind in KINDS
    )
    tables = "\n".join(_table(kind, [r for r in rows if r.kind == kind]) for kind in KINDS)
    return f"""# Families

What `record` captures of each model class of transformers {hf.__version__} that can be built tiny on a CPU, without
the hub. Made by `python -m tests.probing.families`; the nightly test `tests/probing/families/test_families.py`
holds it.

| | {" | ".join(_STATES)} |
|---|{"---|" * len(_STATES)}
{counts}

*Right*: in one pass over two rows, the second padded on the left (in the second table with a picture in each row), the
recorded states equal those of plain hooks on the blocks, bit for bit; what attention and MLP are said to add sums to
what the block adds, in every token, to 1e-4 of it; the MLP gives one token what it gives it among others; heads and
MLP activations, put through their projection, give the module's output; `ln_final` is the last hidden state or what
the head reads; `hook_embed` is the token embedding, with pictures in the place of one token.
*Not checked*: the layout was resolved, but no input made for the check fits the model. *Not built*: transformers needs
another library, or the small sizes do not fit one another.

*Stream alone*: `hook_embed`, `hook_resid_pre`, `hook_resid_post` and `ln_final`, because attention and MLP have no
known names in every block, or do not add up to what the block adds (scaled residuals, two branches, mixers).
Models that normalise their stream after each block (BERT, GPT-1) have the normalised state there and no `ln_final`.
Models without `hook_embed` put pictures in inside the stack, or read no picture token. *z* is `attn.hook_z`, *mlp post*
is `mlp.hook_post`, at the blocks that have such a projection (the dense blocks of a stack that goes on with experts).
Blocks that only pictures reach (Mllama) have states only in passes with a picture.

An encoder-decoder is refused. Where its decoder runs alone the refusal says so: `record(model.get_decoder(), …)`, while
the whole model runs.

{tables}"""


def _table(kind: str, rows: list[Row]) -> str:
    lines = [f"## {_NAMES[kind]}", "", "| model type | | captured, or why not |", "|---|---|---|"]
    for r in rows:
        words = [points_in_words(r.outcome.points)] if r.outcome.points else []
        words += (
            [r.outcome.detail.replace("|", "/").replace("<", "‹").replace(">", "›")]
            if r.outcome.detail
            else []
        )
        lines.append(f"| {r.name} | {r.outcome.status} | {': '.join(words)} |")
    return "\n".join([*lines, ""])
