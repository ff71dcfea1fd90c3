"""Training and scoring of many image tokens beside the loop that sends picture and text through for every question.

SmolLM2-135M behind a projector of each patch; 8 questions for each of 4 pictures a step, at 81 and 256 image tokens.
The loop is that of common training code: for every question the encoder (or its cached features), the projector, the
language model over image and text, padded, with its own loss over all tokens. Reads: the embedded models.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from benchmarks._interleaved import interleaved
from taxogen.answers.readout import log_odds, log_probs
from taxogen.models import encoders, lms
from taxogen.models.projectors import Projector
from taxogen.models.rows import IMAGE, Row, common_prefix
from taxogen.models.vlm import Vlm, answer_tokens
from taxogen.questions import prompts

PICTURES, QUESTIONS, SCORED = 4, 8, 4
NOUNS = (
    *("bird", "mammal", "fruit", "tool", "vehicle", "musical instrument", "container", "insect", "vegetable"),
    *(
        "weapon",
        "toy",
        "plant",
        "dessert",
        "drink",
        "furniture",
        "clothing",
        "jewelry",
        "kitchen utensil",
        "food",
    ),
    *(
        "animal",
        "home decor",
        "office supply",
        "sports equipment",
        "electronic device",
        "body part",
        "medicine",
    ),
    *(
        "fastener",
        "garden tool",
        "kitchen appliance",
        "footwear",
        "headwear",
        "seafood",
        "breakfast food",
        "game",
    ),
)


def run(quick: bool) -> dict[str, Any]:
    """How many times as fast as the loop a step and the scoring of a picture are, and the share of the matrix peak."""
    rounds = 1 if quick else 5
    lm, encoder = lms.load(), encoders.load("efficientnet-lite2")
    shown = [
        Image.fromarray(np.random.default_rng(i).integers(0, 255, (260, 260, 3), np.uint8)) for i in range(4)
    ]
    work: dict[str, Callable[[], Any]] = {}
    tokens: dict[str, int] = {}
    for patches, width in ((81, encoder.width), (256, 1024)):
        torch.manual_seed(0)
        vlm = Vlm(lm, Projector("gelu-mlp", (patches, width), (patches, lm.width), 0, None))
        features = torch.randn(PICTURES, patches, width)
        rows = [_asked(vlm, noun, picture) for picture in range(PICTURES) for noun in NOUNS[:QUESTIONS]]
        work[f"step {patches}"] = lambda vlm=vlm, rows=rows, features=features: _step(vlm, rows, features)
        work[f"loop {patches}"] = lambda vlm=vlm, rows=rows, features=features: _loop(vlm, rows, features)
        tokens[f"step {patches}"] = int((vlm._layout([row.without_last for row in rows]).ids != 0).sum())
        tokens[f"loop {patches}"] = sum(len(row.ids) for row in rows)
        if patches == 81:
            work["loop 81 with encoder"] = lambda vlm=vlm, rows=rows: _loop(
                vlm, rows, _encoded(encoder, shown, rows), own=True
            )
            work |= _scoring(vlm, features)
    size = 2048
    a, b = (torch.randn(size, size).to(lm.dtype) for _ in range(2))
    work["peak"] = lambda: [a @ b for _ in range(4)]
    times = interleaved(work, rounds)
    peak = 4 * 2 * size**3 / min(times["peak"])
    median = {name: statistics.median(seconds) for name, seconds in times.items()}
    products = sum(layer.weight.numel() for layer in _blocks(lm.model) if isinstance(layer, nn.Linear))
    head = 2 * 2 * lm.model.get_output_embeddings().weight.numel() * 2 * PICTURES * QUESTIONS  # pyright: ignore

    def ratio(slow: str, fast: str) -> float:
        return statistics.median(s / f for s, f in zip(times[slow], times[fast], strict=True))

    return {
        "ratios": {
            "training_speedup_over_naive": ratio("loop 81 with encoder", "step 81"),
            "training_speedup_cached_features_81": ratio("loop 81", "step 81"),
            "training_speedup_cached_features_256": ratio("loop 256", "step 256"),
            "scoring_speedup_over_naive": ratio("naive completion", "completion"),
            "scoring_speedup_yes_no": ratio("naive yes/no", "yes/no"),
            "share_of_matrix_peak": (4 * products * tokens["step 81"] + head) / median["step 81"] / peak,
        },
        "seconds": median,
        "sizes": tokens
        | {"peak GFLOP/s": peak / 1e9, "dtype": str(lm.dtype), "threads": torch.get_num_threads()},
    }


def _blocks(model: Any) -> list[nn.Module]:
    return list(model.base_model.get_submodule("layers").modules())


def _encoded(encoder: encoders.Encoder, shown: Sequence[Image.Image], rows: Sequence[Row]) -> Tensor:
    """The features of each row's picture, encoded again for every row."""
    return torch.from_numpy(np.concatenate([encoder.encode([shown[row.picture]]) for row in rows]))


def _asked(vlm: Vlm, noun: str, picture: int) -> Row:
    return vlm.row("", prompts.segments("is_there", hypernym=noun, answer="Yes"), picture)


def _step(vlm: Vlm, rows: Sequence[Row], features: Tensor) -> None:
    vlm.use_prefix(common_prefix(rows))
    vlm.answer_loss(rows, features).backward()
    vlm.projector.zero_grad()


def _embedded(
    vlm: Vlm, rows: Sequence[Row], features: Tensor, own: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """Embeddings, attention mask and ids of rows padded on the right."""
    width = max(len(row.ids) for row in rows)
    ids = torch.tensor([(*row.ids, *([0] * (width - len(row.ids)))) for row in rows])
    mask = torch.tensor([[1] * len(row.ids) + [0] * (width - len(row.ids)) for row in rows])
    embedded = vlm.embedding(ids.clamp(min=0))
    image = vlm.projector(features if own else features[[row.picture for row in rows]])
    return embedded.masked_scatter((ids == IMAGE)[..., None], image.to(embedded.dtype)), mask, ids


def _loop(vlm: Vlm, rows: Sequence[Row], features: Tensor, own: bool = False) -> None:
    embedded, mask, ids = _embedded(vlm, rows, features, own)
    labels = torch.full_like(ids, -100)
    for line, row in enumerate(rows):
        labels[line, row.answer : len(row.ids)] = ids[line, row.answer : len(row.ids)]
    vlm.model(inputs_embeds=embedded, attention_mask=mask, labels=labels, use_cache=False).loss.backward()
    vlm.projector.zero_grad()


def _scoring(vlm: Vlm, features: Tensor) -> dict[str, Callable[[], Any]]:
    """Scores of every noun for some pictures: ours, and a row for each question in batches."""
    kind = [vlm.row("", prompts.segments("kind", leaf="crow"), picture).prompt for picture in range(SCORED)]
    answers = [vlm.answer(prompts.segments("kind", hypernym=noun)) for noun in NOUNS]
    asked = [_asked(vlm, noun, picture).prompt for picture in range(SCORED) for noun in NOUNS]
    questions = [row.ids[row.spans["cue"][0] :] for row in asked[: len(NOUNS)]]
    contexts = [asked[picture * len(NOUNS)].before_cue for picture in range(SCORED)]
    completed = [
        replace(row, ids=row.ids + answer, answer=len(row.ids)) for row in kind for answer in answers
    ]
    return {
        "completion": lambda: log_probs(vlm, kind, features, answers),
        "naive completion": lambda: _naive(vlm, completed, features),
        "yes/no": lambda: log_odds(vlm, contexts, features, questions, answer_tokens(vlm, "yes_no")),
        "naive yes/no": lambda: _naive(vlm, asked, features),
    }


@torch.inference_mode()
def _naive(vlm: Vlm, rows: Sequence[Row], features: Tensor) -> None:
    for start in range(0, len(rows), 32):
        embedded, mask, _ = _embedded(vlm, rows[start : start + 32], features)
        vlm.model(inputs_embeds=embedded, attention_mask=mask, use_cache=False).logits.float().log_softmax(-1)
