"""Words: the activations of a language model over the names of a taxonomy's leaves, as a store without a run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import pandas as pd
import torch

from probing.capture import capture
from probing.store import ActivationStore
from taxogen.models import devices, lms
from taxogen.models.projectors import Projector
from taxogen.models.vlm import Vlm
from taxogen.questions import prompts
from taxogen.stages.capture_batches import capture_batches
from taxogen.world.taxonomy import Taxonomy

SPANS = ("noun", "cue", "last")


def capture_words(
    name: str,
    taxonomy: Taxonomy,
    folder: Path,
    *,
    template: str = "kind",
    chat: bool = False,
    sites: Sequence[str] = ("hook_embed", "blocks.*.hook_resid_post", "ln_final.hook_normalized"),
    dtype: str = "auto",
    device: str = "auto",
) -> ActivationStore:
    """A store of the states at noun, cue and last token (means over a span's tokens), a row for each leaf.

    Args:
        name: of a causal language model: hub name, folder, GGUF file, or `smollm2-135m`.
        taxonomy: whose leaves are the nouns.
        folder: of the store; a capture that was stopped goes on there.
        template: in which a leaf's name stands, such as `kind`: "A crow is a kind of".
        chat: whether it stands in the tokenizer's chat template.
        sites: patterns of hook points.
        dtype: a torch number type; auto: bfloat16 where the device computes it in hardware, else float32.
        device: as `model.device`.

    Raises:
        ValueError, FileNotFoundError, MismatchError: as `lms.load`; or the store is of another capture.
        KeyError: no such template or site.
    """
    prompts.template(template)
    kind = "native" if dtype == "auto" else cast(torch.dtype, getattr(torch, dtype))
    lm = lms.load(name, dtype=kind, device=str(devices.resolve(device)))
    vlm = Vlm(lm, Projector("linear", (1, 1), (1, lm.width), 0, None), chat)
    noun = taxonomy.hypernyms[0]  # of a closed question; completions leave it open
    rows = [
        vlm.row(leaf, prompts.segments(template, leaf=leaf, hypernym=noun, modality="text")).prompt
        for leaf in taxonomy.leaves
    ]
    leaves = list(taxonomy.leaves)
    table = pd.DataFrame({"item_id": leaves, "leaf": leaves, "prompt": template, "modality": "text"})
    return capture(
        vlm.model,
        capture_batches(vlm, torch.empty(0), rows, SPANS, table),
        folder,
        sites=sites,
        attributes={"lm": lm.name, "lm_revision": lm.revision, "prompt_format": template, "chat": chat},
    )
