"""Read-outs: how likely the model finds each candidate answer; what rows share is computed once."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from tqdm import tqdm
from transformers import DynamicCache

from probing.hooks.sequences import select_rows
from taxogen.models import ranks
from taxogen.models.features import PictureFeatures
from taxogen.models.rows import Row, common_prefix
from taxogen.models.vlm import Vlm
from taxogen.questions.prompts import Segments
from taxogen.runs.run import Run

PAIRS = 256  # (row, candidate) continuations in one forward pass
Choose = Callable[[Float[np.ndarray, "rows candidates"]], Bool[np.ndarray, "rows candidates"]]


@dataclass(frozen=True)
class Readout(ABC):
    """A way to read what a trained model answers; every method gives nats, subjects × candidate answers.

    Attributes:
        format: the format of questions that it reads (`data.task`).
        about: the meaning of a number, as stored with the scores.
        decisions: the ways in which an answer can be decided to be Yes, the first to be looked at. prevalence: for as
            many subjects as have the hypernym, those with the highest read-outs; calibrated: above the threshold that
            is best on validation pictures; zero: above 0.
        run: whose world is asked about.
        vlm: the model.
        features: of all pictures.
        picture_index: for each picture its row in `features`.
    """

    format: ClassVar[str]
    about: ClassVar[str]
    decisions: ClassVar[tuple[str, ...]]
    run: Run
    vlm: Vlm
    features: PictureFeatures
    picture_index: dict[str, int]

    @abstractmethod
    def texts(self, prompt: str, name: str = "") -> Segments:
        """The texts of a prompt about a leaf's name (without one, about a picture), its answer left open."""

    @abstractmethod
    def hypernyms_of_pictures(
        self, pictures: Sequence[str], prompt: str
    ) -> Float[np.ndarray, "pictures hypernyms"]:
        """Read-out of every hypernym for every picture."""

    @abstractmethod
    def hypernyms_of_names(self, names: Sequence[str], prompt: str) -> Float[np.ndarray, "names hypernyms"]:
        """Read-out of every hypernym for every name in the picture's place."""

    @abstractmethod
    def names_of_pictures(
        self, pictures: Sequence[str], prompt: str, which: Bool[np.ndarray, "pictures leaves"]
    ) -> Float[np.ndarray, "pictures leaves"]:
        """Read-out of the chosen names of leaf concepts, NaN for the others."""

    def best_names(self, pictures: Sequence[str], prompt: str) -> Int[np.ndarray, " pictures"] | None:
        """The leaf (its place in the taxonomy) with the highest read-out of all; None where that takes too long."""
        return None

    @classmethod
    def calibrates(cls) -> bool:
        """Whether thresholds are fitted on validation pictures."""
        return "calibrated" in cls.decisions

    def picture_row(self, prompt: str, picture: str) -> Row:
        """A prompt about a picture, tokenised."""
        return self.vlm.row(picture, self.texts(prompt), self.picture_index[picture])

    def name_row(self, prompt: str, name: str) -> Row:
        """A prompt about a name, tokenised."""
        return self.vlm.row(name, self.texts(prompt, name))


@torch.inference_mode()
def log_probs(
    vlm: Vlm,
    rows: Sequence[Row],
    features: PictureFeatures,
    candidates: Sequence[tuple[int, ...]],
    which: np.ndarray | Choose | None = None,
    what: str = "score",
) -> Float[np.ndarray, "rows candidates"]:
    """Natural log-probability of each candidate's tokens after each row's prompt, summed over the tokens.

    Args:
        vlm: the model.
        rows: their prompts are read; answers are ignored.
        features: of all pictures.
        candidates: token ids of the possible answers; none empty.
        which: boolean [rows, candidates], the pairs to compute; all where None. The others are NaN. Or a function
            that chooses them by the log-probabilities of their first tokens, some rows at a time.
        what: named by the progress bar.
    """
    prompts = [row.prompt for row in rows]
    vlm.use_prefix(common_prefix(prompts))
    mask = np.ones((len(rows), len(candidates)), bool)
    if isinstance(which, np.ndarray):
        mask = which
    result = np.full(mask.shape, np.nan, np.float32)
    first = torch.tensor([candidate[0] for candidate in candidates], device=vlm.device)
    own = ranks.dealt(list(_batches_of_one_length(prompts)))
    with tqdm(total=sum(map(len, own)), desc=what, unit="row", leave=False, mininterval=1) as bar:
        for batch in own:
            read = [prompts[i] for i in batch]
            (hidden, cache), ends = vlm.hidden(read, features), vlm.ends(read)
            scores = vlm.logits(hidden[:, -1]).log_softmax(-1)[:, first].cpu().numpy()
            if callable(which):
                mask[batch] = which(scores)
            result[batch] = np.where(mask[batch], scores, np.nan)
            pairs = [(at, c) for at, row in enumerate(batch) for c in range(len(candidates)) if mask[row, c]]
            # Of one length together, so that little is padded.
            pairs = sorted(
                (p for p in pairs if len(candidates[p[1]]) > 1), key=lambda p: len(candidates[p[1]])
            )
            for start in range(0, len(pairs), PAIRS):
                chunk = pairs[start : start + PAIRS]
                behind = [at for at, _ in chunk]
                rest = _continuations(vlm, cache, ends, behind, [candidates[c] for _, c in chunk])
                for (at, c), value in zip(chunk, rest.tolist(), strict=True):
                    result[batch[at], c] += value
            bar.update(len(batch))
    return _of_all(result, own)


@torch.inference_mode()
def log_odds(
    vlm: Vlm,
    contexts: Sequence[Row],
    features: PictureFeatures,
    questions: Sequence[tuple[int, ...]],
    answers: tuple[int, int],
    which: np.ndarray | None = None,
    what: str = "score",
) -> Float[np.ndarray, "contexts questions"]:
    """Logit of the first answer minus that of the second after each context and question, in nats.

    Args:
        vlm: the model.
        contexts: rows that end where the questions begin; read once for all questions.
        features: of all pictures.
        questions: token ids of the questions; none empty.
        answers: one token id each.
        which: boolean [contexts, questions], the pairs to compute; all where None. The others are NaN.
        what: named by the progress bar.
    """
    shared = common_start(questions)
    rests = [question[len(shared) :] for question in questions]
    rows = [replace(row, ids=row.ids + shared, answer=len(row.ids) + len(shared)) for row in contexts]
    vlm.use_prefix(common_prefix(rows))
    mask = np.ones((len(rows), len(questions)), bool) if which is None else which
    result = np.full(mask.shape, np.nan, np.float32)
    yes, no = answers
    own = ranks.dealt(list(_batches_of_one_length(rows)))
    with tqdm(total=sum(map(len, own)), desc=what, unit="row", leave=False, mininterval=1) as bar:
        for batch in own:
            read = [rows[i] for i in batch]
            (_, cache), ends = vlm.hidden(read, features), vlm.ends(read)
            pairs = [(at, q) for at, row in enumerate(batch) for q in np.flatnonzero(mask[row])]
            pairs = sorted(pairs, key=lambda pair: len(rests[pair[1]]))
            for start in range(0, len(pairs), PAIRS):
                at, q = np.array(pairs[start : start + PAIRS]).T
                ids = _padded([rests[place] for place in q])
                last = torch.tensor([len(rests[place]) - 1 for place in q], device=vlm.device)
                hidden = _continued(vlm, cache, ends, at.tolist(), ids.to(vlm.device))
                logits = vlm.logits(hidden[torch.arange(len(q), device=vlm.device), last])
                result[np.array(batch)[at], q] = (logits[:, yes] - logits[:, no]).cpu().numpy()
            bar.update(len(batch))
    return _of_all(result, own)


def _of_all(own: np.ndarray, batches: Sequence[Sequence[int]]) -> np.ndarray:
    """The rows of all processes, each of which has computed those of its batches."""
    rows = [row for batch in batches for row in batch]
    for theirs, values in ranks.exchange((rows, own[rows])):
        own[theirs] = values
    return own


def common_start(questions: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    """The tokens that all questions begin with; each keeps at least one of its own."""
    first, last = min(questions), max(questions)
    length = 0
    while length < min(map(len, questions)) - 1 and first[length] == last[length]:
        length += 1
    return first[:length]


def _padded(sequences: Sequence[tuple[int, ...]]) -> Int[Tensor, "sequences longest"]:
    ids = torch.zeros(len(sequences), max(map(len, sequences)), dtype=torch.long)
    for i, sequence in enumerate(sequences):
        ids[i, : len(sequence)] = torch.tensor(sequence)
    return ids


def _continued(
    vlm: Vlm,
    cache: DynamicCache,
    ends: Int[Tensor, " rows"],
    at: Sequence[int],
    ids: Int[Tensor, "pairs t"],
) -> Float[Tensor, "pairs t width"]:
    """The last hidden states of tokens that follow the rows `at` of a cache, from the position `ends` of each on."""
    rows = torch.tensor(at, device=vlm.device)
    positions = ends[rows][:, None] + torch.arange(ids.shape[1], device=vlm.device)
    past = select_rows(cache, rows)
    return vlm.model.base_model(
        input_ids=ids, position_ids=positions, past_key_values=past, use_cache=True
    ).last_hidden_state


def _continuations(
    vlm: Vlm,
    cache: DynamicCache,
    ends: Int[Tensor, " rows"],
    at: Sequence[int],
    candidates: Sequence[tuple[int, ...]],
) -> Float[Tensor, " pairs"]:
    """Log-probability of all but the first token of each candidate, read after row `at` of a cache."""
    ids, width = _padded(candidates).to(vlm.device), max(map(len, candidates)) - 1
    real = torch.arange(width)[None] < torch.tensor([len(candidate) - 1 for candidate in candidates])[:, None]
    owner, place = (index.to(vlm.device) for index in real.nonzero(as_tuple=True))
    hidden = _continued(vlm, cache, ends, at, ids[:, :-1])
    scores = vlm.logits(hidden[owner, place]).log_softmax(-1).gather(1, ids[owner, place + 1][:, None])[:, 0]
    return torch.zeros(len(ids), device=vlm.device).index_add_(0, owner, scores)


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
