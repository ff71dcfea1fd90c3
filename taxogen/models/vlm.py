"""Vlm: a frozen language model that reads pictures through a small learned projector."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import DynamicCache, PreTrainedModel

from probing.hooks.structure import sample_tokens
from taxogen.models.lms import LM
from taxogen.models.projectors import Projector
from taxogen.questions import prompts
from taxogen.questions.prompts import Segments, in_chat

IMAGE = -1  # stands in a row's ids where a projected picture token goes


@dataclass(frozen=True)
class Row:
    """One tokenised stimulus: ids with IMAGE where the picture goes, where the answer starts, its named spans."""

    item_id: str
    ids: tuple[int, ...]
    answer: int  # index of the first answer token; ids[:answer] is the prompt
    spans: Mapping[str, tuple[int, ...]]
    picture: int = -1  # row of the feature table; -1 for a text row

    @property
    def prompt(self) -> "Row":
        """The same row without its answer."""
        return Row(self.item_id, self.ids[: self.answer], self.answer, self.spans, self.picture)

    @property
    def before_cue(self) -> "Row":
        """The same row up to the end of its slot: the part that questions about one subject share."""
        stop = self.spans["cue"][0]
        slot = {name: self.spans[name] for name in prompts.SPAN_OF_SLOT.values() if name in self.spans}
        return Row(self.item_id, self.ids[:stop], stop, slot, self.picture)


class Vlm:
    """A projector in front of a frozen language model, which computes the rows' shared first tokens only once.

    Rows are padded on the right and attention is causal, so that padding cannot reach any real token and no mask is
    needed; positions are those of the whole sequence.
    """

    def __init__(self, lm: LM, projector: Projector, chat: bool = False):
        """`chat`: whether every prompt is the user's turn of the tokenizer's chat template."""
        self.lm, self.projector, self.chat = lm, projector, chat
        self.model: PreTrainedModel = lm.model
        self.embedding: nn.Embedding = self.model.get_input_embeddings()  # pyright: ignore[reportAttributeAccessIssue]
        self.prefix_ids: tuple[int, ...] = ()
        self._prefix: list[tuple[Tensor, Tensor]] = []
        self._check_readout()

    @property
    def dtype(self) -> torch.dtype:
        """The number type the language model computes in."""
        return self.embedding.weight.dtype

    def row(self, item_id: str, segments: Segments, picture: int = -1) -> Row:
        """A prompt and its answer as token ids; the picture (or the slot's words) between `before` and `after`."""
        segments = self.worded(segments)
        start = () if self.lm.start_token_id is None or self.chat else (self.lm.start_token_id,)
        before, after = (*start, *self.tokens(segments.before)), self.tokens(segments.after)
        if segments.image_at == "after_first_token":
            text = (*before, *after)
            before, after = text[:1], text[1:]
        slot = (IMAGE,) * self.projector.tokens[0] if segments.slot is None else self.tokens(segments.slot)
        answer = self.tokens(segments.answer)
        if answer and not segments.end:
            answer = (*answer, cast(int, self.lm.tokenizer.eos_token_id))
        at = len(before) + len(slot)
        spans = {
            prompts.span_name("slot", "image" if segments.slot is None else "text"): tuple(
                range(len(before), at)
            ),
            "cue": tuple(range(at, at + len(after))),
            "last": (at + len(after) - 1,),
        }
        return Row(item_id, (*before, *slot, *after, *answer), at + len(after), spans, picture)

    def answer(self, segments: Segments) -> tuple[int, ...]:
        """The token ids of a prompt's answer."""
        return self.tokens(self.worded(segments).answer)

    def worded(self, segments: Segments) -> Segments:
        """The texts as this model is given them: in a chat template, which has its own start token, or as they are."""
        return in_chat(segments, self.lm.tokenizer) if self.chat else segments

    def tokens(self, text: str) -> tuple[int, ...]:
        """The token ids of a piece of text, with no special token added."""
        return tuple(self.lm.tokenizer(text, add_special_tokens=False).input_ids) if text else ()

    def use_prefix(self, ids: tuple[int, ...]) -> None:
        """Computes the keys and values of the tokens that every coming row starts with, once for all."""
        if ids == self.prefix_ids:
            return
        self.prefix_ids, self._prefix = ids, []
        if ids:
            with torch.no_grad():
                out = self.model.base_model(input_ids=torch.tensor([ids], device=self.device), use_cache=True)
            self._prefix = [(layer.keys, layer.values) for layer in out.past_key_values.layers]

    @property
    def device(self) -> torch.device:
        """Where the language model lives."""
        return self.embedding.weight.device

    def inputs(self, rows: Sequence[Row], features: Float[Tensor, "pictures tokens d"]) -> dict[str, object]:
        """The arguments of the language model for a batch of rows: `model(**inputs)`."""
        skip = len(self.prefix_ids)
        width = max(len(row.ids) for row in rows) - skip
        ids = torch.zeros(len(rows), width, dtype=torch.long)
        for at, row in enumerate(rows):
            ids[at, : len(row.ids) - skip] = torch.tensor(row.ids[skip:])
        ids = ids.to(self.device)
        is_image = ids == IMAGE
        embedded = self.embedding(ids.clamp(min=0))
        pictures = [row.picture for row in rows if row.picture >= 0]
        if pictures:
            tokens = self.projector(features[pictures].to(self.device, torch.float32)).to(embedded.dtype)
            embedded = embedded.masked_scatter(is_image[..., None], tokens)
        positions = torch.arange(skip, skip + width, device=self.device)[None].expand(len(rows), -1)
        return {
            "inputs_embeds": embedded,
            "position_ids": positions,
            "past_key_values": self.prefix_cache(len(rows)),
        }

    def prefix_cache(self, rows: int) -> DynamicCache:
        """A fresh cache that holds the shared prefix for each of `rows` rows."""
        layers = [(k.expand(rows, -1, -1, -1), v.expand(rows, -1, -1, -1)) for k, v in self._prefix]
        return DynamicCache(layers) if layers else DynamicCache(config=self.model.config)

    def hidden(
        self, rows: Sequence[Row], features: Tensor
    ) -> tuple[Float[Tensor, "rows t width"], DynamicCache]:
        """The last hidden states (after the final norm) of the rows' own tokens, and the cache that holds them all."""
        out = self.model.base_model(**self.inputs(rows, features), use_cache=True)
        return out.last_hidden_state, out.past_key_values

    def logits(self, hidden: Float[Tensor, "n width"]) -> Float[Tensor, "n vocabulary"]:
        """Next-token logits (float32) for a two-dimensional batch of last hidden states."""
        head = self.model.get_output_embeddings()
        assert head is not None
        logits = head(hidden).float()
        cap = getattr(self.model.config, "final_logit_softcapping", None)
        return cap * torch.tanh(logits / cap) if cap else logits

    def answer_loss(self, rows: Sequence[Row], features: Tensor) -> Float[Tensor, ""]:
        """The mean negative log-likelihood of the rows' answer tokens, in nats per token; prompts are not scored."""
        hidden, _ = self.hidden([_without_last(row) for row in rows], features)
        at, positions, targets = _answer_positions(rows, len(self.prefix_ids))
        return nn.functional.cross_entropy(self.logits(hidden[at, positions]), targets.to(self.device))

    def _check_readout(self) -> None:
        """Refuses a model whose logits are more than its output matrix times its last hidden state."""
        ids = sample_tokens(self.model, rows=1).to(self.device)
        with torch.no_grad():
            hidden = self.model.base_model(input_ids=ids).last_hidden_state[0]
            expected, logits = self.model(input_ids=ids).logits[0].float(), self.logits(hidden)
        worst = (expected - logits).abs().max().item()
        if worst > 0.02 * expected.abs().max().item() + 1e-6:
            raise ValueError(
                f"{self.lm.name}: the model's own logits differ by {worst:.3g} from its output embedding applied "
                "to its last hidden state; this architecture scales its logits in an unknown way: "
                "add it to Vlm.logits"
            )


def _without_last(row: Row) -> Row:
    return Row(row.item_id, row.ids[:-1], row.answer, row.spans, row.picture)


def _answer_positions(rows: Sequence[Row], skip: int) -> tuple[Tensor, Tensor, Int[Tensor, " answers"]]:
    """For every answer token: its row, the position that predicts it (prefix not counted), and its id."""
    triples = [
        (at, j - 1 - skip, row.ids[j]) for at, row in enumerate(rows) for j in range(row.answer, len(row.ids))
    ]
    at, positions, targets = torch.tensor(triples).T
    return at, positions, targets


def common_prefix(rows: Sequence[Row]) -> tuple[int, ...]:
    """The longest run of tokens that all rows start with and that lies before every named span."""
    first, last = min(row.ids for row in rows), max(row.ids for row in rows)
    limit = min(position for row in rows for span in row.spans.values() for position in span)
    length = 0
    while length < limit and first[length] == last[length]:
        length += 1
    return first[:length]


def answer_tokens(vlm: Vlm, format: str) -> tuple[int, int]:
    """The first tokens of the words that affirm and deny a closed question of some format, such as Yes and No.

    Raises:
        ValueError: the tokenizer begins both with the same token.
    """
    form = prompts.FORMATS[format]
    texts = (
        prompts.segments(form.prompts["hypernym"][0], hypernym="thing", answer=word) for word in form.answers
    )
    yes, no = (vlm.answer(text)[0] for text in texts)
    if yes == no:
        raise ValueError(
            f"the tokenizer of {vlm.lm.name} begins {' and '.join(form.answers)} with the same token ({yes}), so that "
            "they cannot be distinguished by their first token: use data.task=completion with this language model"
        )
    return yes, no
