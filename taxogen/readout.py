"""Read-outs: how likely the model finds each candidate answer; what rows share is computed once."""

import copy
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm
from transformers import DynamicCache

from taxogen.vlm import Row, Vlm, common_prefix

PAIRS = 256  # (row, candidate) continuations in one forward pass


@torch.inference_mode()
def log_probs(
    vlm: Vlm,
    rows: Sequence[Row],
    features: Tensor,
    candidates: Sequence[tuple[int, ...]],
    asked: np.ndarray | None = None,
    what: str = "score",
) -> Float[np.ndarray, "rows candidates"]:
    """Natural log-probability of each candidate's tokens after each row's prompt, summed over the tokens.

    Args:
        vlm: the model.
        rows: their prompts are read; answers are ignored.
        features: of all pictures.
        candidates: token ids of the possible answers; none empty.
        asked: boolean [rows, candidates], which pairs to compute; all where None. The others are nan.
        what: named by the progress bar.
    """
    prompts = [row.prompt for row in rows]
    vlm.use_prefix(common_prefix(prompts))
    wanted = np.ones((len(rows), len(candidates)), bool) if asked is None else asked
    result = np.full(wanted.shape, np.nan, np.float32)
    first = torch.tensor([candidate[0] for candidate in candidates], device=vlm.device)
    with tqdm(total=len(rows), desc=what, unit="row", leave=False, mininterval=1) as bar:
        for batch in _batches_of_one_length(prompts):
            hidden, cache = vlm.hidden([prompts[i] for i in batch], features)
            scores = vlm.logits(hidden[:, -1]).log_softmax(-1)[:, first].cpu().numpy()
            result[batch] = np.where(wanted[batch], scores, np.nan)
            pairs = [
                (at, c) for at, row in enumerate(batch) for c in range(len(candidates)) if wanted[row, c]
            ]
            # Of one length together, so that little is padded.
            pairs = sorted(
                (p for p in pairs if len(candidates[p[1]]) > 1), key=lambda p: len(candidates[p[1]])
            )
            for start in range(0, len(pairs), PAIRS):
                chunk = pairs[start : start + PAIRS]
                rest = _continuations(vlm, cache, [at for at, _ in chunk], [candidates[c] for _, c in chunk])
                for (at, c), value in zip(chunk, rest.tolist(), strict=True):
                    result[batch[at], c] += value
            bar.update(len(batch))
    return result


def _continuations(
    vlm: Vlm, cache: DynamicCache, at: Sequence[int], candidates: Sequence[tuple[int, ...]]
) -> Float[Tensor, " pairs"]:
    """Log-probability of all but the first token of each candidate, read after row `at` of a cache."""
    width = max(map(len, candidates)) - 1
    ids = torch.zeros(len(candidates), width + 1, dtype=torch.long)
    for i, candidate in enumerate(candidates):
        ids[i, : len(candidate)] = torch.tensor(candidate)
    real = torch.arange(width)[None] < torch.tensor([len(candidate) - 1 for candidate in candidates])[:, None]
    ids, real, index = ids.to(vlm.device), real.to(vlm.device), torch.tensor(at, device=vlm.device)
    past = select_rows(cache, index)
    positions = torch.arange(width, device=vlm.device)[None] + cache.get_seq_length()
    hidden = vlm.model.base_model(
        input_ids=ids[:, :-1],
        position_ids=positions.expand(len(ids), -1),
        past_key_values=past,
        use_cache=True,
    ).last_hidden_state
    scores = vlm.logits(hidden[real]).log_softmax(-1).gather(1, ids[:, 1:][real][:, None])[:, 0]
    owner = torch.arange(len(ids), device=vlm.device)[:, None].expand(-1, width)[real]
    return torch.zeros(len(ids), device=vlm.device).index_add_(0, owner, scores)


def select_rows(cache: DynamicCache, index: Tensor) -> DynamicCache:
    """A cache of its own with the given rows of another."""
    chosen = copy.copy(cache)
    chosen.layers = [copy.copy(layer) for layer in cache.layers]
    chosen.batch_select_indices(index)
    return chosen


def _batches_of_one_length(rows: Sequence[Row], size: int = 64) -> Iterator[list[int]]:
    """Batches of row indices in which all prompts have the same length: continuations must not follow padding."""
    order = sorted(range(len(rows)), key=lambda i: (len(rows[i].ids), i))
    start = 0
    while start < len(order):
        length = len(rows[order[start]].ids)
        stop = start
        while stop < len(order) and stop - start < size and len(rows[order[stop]].ids) == length:
            stop += 1
        yield order[start:stop]
        start = stop
