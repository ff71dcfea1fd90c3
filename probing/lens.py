"""Lenses: the words that a layer would give if the model stopped there. Logit lens, tuned lens, nearest words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from array_api_compat import array_namespace
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

from probing.hooks.layouts import layout_of
from probing.hooks.structure import sample_tokens
from probing.probes.fitted import Standardizer
from probing.probes.linear import check_penalties, ridge_path
from probing.probes.splits import grouped_folds

Array = Any
PENALTIES = tuple(float(p) for p in np.logspace(-1, 5, 7))
_INNER_FOLDS = 5


@dataclass(frozen=True)
class LogitLens:
    """The model's own final norm and output embedding, to be applied to the residual stream of any layer.

    >>> from transformers import LlamaConfig, LlamaForCausalLM
    >>> size = dict(vocab_size=20, hidden_size=8, intermediate_size=8, num_hidden_layers=2, num_attention_heads=2)
    >>> model = LlamaForCausalLM(LlamaConfig(**size))
    >>> with torch.no_grad():
    ...     logits = LogitLens.of(model)(torch.zeros(4, 8))
    >>> tuple(logits.shape)
    (4, 20)

    Source: nostalgebraist 2020, "interpreting GPT: the logit lens" (lesswrong.com).
    """

    norm: nn.Module
    head: nn.Module
    cap: float | None = None

    @classmethod
    def of(cls, model: nn.Module) -> LogitLens:
        """The lens of a Hugging Face causal language model, checked on the model itself.

        Raises:
            ValueError: the model has no output embedding, or other logits than the lens at its last layer.
        """
        layout = layout_of(model)
        head = getattr(model, "get_output_embeddings", lambda: None)()
        if head is None:
            raise ValueError(
                f"{type(model).__name__} has no output embedding to look through; load it as a causal language model"
            )
        norm = getattr(layout.stack, layout.family.final_norm)
        lens = cls(norm, head, getattr(getattr(model, "config", None), "final_logit_softcapping", None))
        lens._check(model, layout.blocks[-1])
        return lens

    def __call__(self, hidden: Float[Tensor, "*n width"]) -> Float[Tensor, "*n vocabulary"]:
        """Logits in float32, computed in the model's own number type."""
        parameter = next(self.head.parameters())
        logits = self.head(self.norm(hidden.to(parameter.device, parameter.dtype))).float()
        return self.cap * torch.tanh(logits / self.cap) if self.cap else logits

    def _check(self, model: nn.Module, last: nn.Module) -> None:
        seen: list[Tensor] = []
        handle = last.register_forward_hook(
            lambda *call: seen.append(call[-1] if isinstance(call[-1], Tensor) else call[-1][0])
        )
        try:
            with torch.no_grad():
                expected = model(input_ids=sample_tokens(model)).logits.float()
                own = self(seen[0])
        finally:
            handle.remove()
        worst = float((expected - own).abs().max())
        if worst > 0.02 * float(expected.abs().max()) + 1e-6:
            raise ValueError(
                f"the logits of {type(model).__name__} differ by {worst:.3g} from its final norm and output embedding "
                "at its last layer; this architecture scales them in a way not known here: add it to probing.lens"
            )


@dataclass(frozen=True)
class Translator:
    """An affine map from the residual stream of one layer to the one that enters the final norm.

    >>> hidden = np.random.default_rng(0).normal(size=(40, 3))
    >>> translate = fit_translator(hidden, 2 * hidden + 1, np.arange(40) // 4)
    >>> bool(np.allclose(translate(hidden), 2 * hidden + 1, atol=0.1))
    True
    """

    standardizer: Standardizer
    matrix: Float[Array, "d d"]
    offset: Float[Array, " d"]
    penalty: float

    def __call__(self, hidden: Float[Array, "n d"]) -> Float[Array, "n d"]:
        """The linear prediction of the last layer's state, on which a logit lens is applied."""
        return self.standardizer(hidden) @ self.matrix + self.offset


def fit_translator(
    hidden: Float[Array, "n d"],
    final: Float[Array, "n d"],
    groups: Shaped[np.ndarray, " n"],
    penalties: tuple[float, ...] = PENALTIES,
) -> Translator:
    """The translator of a layer: a ridge from its rows to those of the last layer, the penalty by held-out groups.

    The penalty is the one of the least squared error, each dimension in units of its spread, on a fifth of the groups;
    the map is then fitted on all rows.

    >>> hidden = np.random.default_rng(0).normal(size=(40, 3))
    >>> fit_translator(hidden, hidden[:, ::-1].copy(), np.arange(40) // 4).penalty
    0.1

    Source: Belrose et al. 2023, arXiv:2303.08112, "Eliciting latent predictions from transformers with the tuned lens",
    section 3. They minimise the KL divergence from the model's final distribution by gradient descent on text; here the
    squared error in the last layer's residual stream is minimised in closed form, on the rows at hand. It needs far
    fewer rows, and asks for more than the distribution: dimensions that the output embedding ignores count as well.

    Raises:
        ValueError: rows do not match, or there are fewer than two groups.
    """
    check_penalties(penalties)
    if hidden.shape != final.shape or len(groups) != hidden.shape[0]:
        raise ValueError(
            f"rows of the layer {tuple(hidden.shape)}, of the last layer {tuple(final.shape)}, groups {len(groups)}: "
            "give the same rows of one model"
        )
    xp = array_namespace(hidden)
    names = np.unique(groups)
    if len(names) < 2:
        raise ValueError("a penalty is chosen on held-out groups, found one group; give rows of two or more")
    fold = grouped_folds(
        np.asarray(groups), np.zeros((len(groups), 1), dtype=bool), min(_INNER_FOLDS, len(names))
    )
    inner, outer = (xp.asarray(np.flatnonzero(part)) for part in (fold != 0, fold == 0))
    source, goal = Standardizer.fit(hidden), Standardizer.fit(final)
    x, y = source(hidden), goal(final)
    path, offsets = ridge_path(xp.take(x, inner, axis=0), xp.take(y, inner, axis=0), penalties)
    errors = [
        float(xp.mean((xp.take(x, outer, axis=0) @ matrix + offset - xp.take(y, outer, axis=0)) ** 2))
        for matrix, offset in zip(path, offsets)
    ]
    penalty = penalties[int(np.argmin(errors))]
    path, offsets = ridge_path(x, y, (penalty,))
    scale = goal.scale[0]
    return Translator(source, path[0] * scale, offsets[0] * scale + goal.mean[0], penalty)


def word_evidence(
    logits: Float[Tensor, "n vocabulary"], words: Int[Tensor, "n k"]
) -> tuple[Float[Tensor, "n k"], Int[Tensor, "n k"]]:
    """Natural log-probability and rank (1 is the best; of equals, the best of theirs) of some tokens of each row.

    >>> log_probability, rank = word_evidence(torch.tensor([[0.0, 2.0, 1.0]]), torch.tensor([[1, 0]]))
    >>> rank
    tensor([[1, 3]])
    """
    chosen = logits.gather(1, words)
    ranks = [1 + (logits > chosen[:, [column]]).sum(-1) for column in range(words.shape[1])]
    return chosen - logits.logsumexp(-1, keepdim=True), torch.stack(ranks, 1)


def nearest_words(
    vectors: Float[Array, "n d"], table: Float[Array, "vocabulary d"], k: int
) -> tuple[Int[Array, "n k"], Float[Array, "n k"]]:
    """The rows of an embedding table that point most nearly where each vector does, and their cosines, best first.

    A row or vector of zeros points nowhere: its cosine is 0.

    >>> order, cosine = nearest_words(np.array([[2.0, 0.1]]), np.array([[0.0, 1.0], [1.0, 0.0]]), k=1)
    >>> order, cosine.round(2)
    (array([[1]]), array([[1.]]))
    """
    xp = array_namespace(vectors, table)
    if not 0 < k <= table.shape[0]:
        raise ValueError(f"asked for the {k} nearest of {table.shape[0]} words")
    cosines = unit_rows(vectors) @ unit_rows(table).T
    order = xp.argsort(cosines, axis=1, descending=True, stable=True)[:, :k]
    return order, xp.take_along_axis(cosines, order, axis=1)


def unit_rows(rows: Float[Array, "n d"]) -> Float[Array, "n d"]:
    """Rows scaled to length 1; rows of zeros stay.

    >>> unit_rows(np.array([[3.0, 4.0], [0.0, 0.0]]))
    array([[0.6, 0.8],
           [0. , 0. ]])
    """
    xp = array_namespace(rows)
    length = xp.linalg.vector_norm(rows, axis=1, keepdims=True)
    return rows / xp.where(length > 0, length, xp.ones_like(length))
