"""Vlm: a frozen language model that reads pictures through a small learned projector."""

import logging
import math
from collections.abc import Sequence
from functools import cached_property, partial
from typing import cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import DynamicCache, PreTrainedModel

from probing.hooks.structure import sample_tokens
from taxogen.models import tokenizers
from taxogen.models.features import PictureFeatures
from taxogen.models.lms import LM
from taxogen.models.packing import Layout, one_row_each, packed, smallest
from taxogen.models.projectors import Projector
from taxogen.models.rows import IMAGE, Row, Speller
from taxogen.questions import prompts
from taxogen.questions.prompts import Segments, in_chat

log = logging.getLogger(__name__)


class Vlm:
    """A projector in front of a frozen language model, which computes the rows' shared first tokens only once.

    Rows are padded on the right and attention is causal, so that padding cannot reach any real token and no mask is
    needed; positions are those of the whole sequence.
    """

    plain = True
    """Whether a token's position is its place in the row, and it sees all before it: rows then share their starts."""

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
        return self._speller(self.projector.tokens[0]).row(item_id, self.worded(segments), picture)

    def _speller(self, image_tokens: int) -> Speller:
        start = () if self.lm.start_token_id is None or self.chat else (self.lm.start_token_id,)
        end = cast(int | None, self.lm.tokenizer.eos_token_id)
        return Speller(self.tokens, start, end, image_tokens, partial(tokenizers.opening, self.lm.tokenizer))

    def answer(self, segments: Segments) -> tuple[int, ...]:
        """The token ids of a prompt's answer."""
        return self.tokens(self.worded(segments).answer)

    def worded(self, segments: Segments) -> Segments:
        """The texts as this model is given them: in a chat template, which has its own start token, or as they are."""
        return in_chat(segments, self.lm.tokenizer) if self.chat else segments

    def tokens(self, text: str) -> tuple[int, ...]:
        """The token ids of a piece of text that stands behind others, with no special token added."""
        return tokenizers.following(self.lm.tokenizer, text)

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

    def inputs(self, rows: Sequence[Row], features: PictureFeatures) -> dict[str, object]:
        """The arguments of the language model for a batch of rows, each in a line of its own: `model(**inputs)`."""
        return self._inputs(one_row_each(rows, len(self.prefix_ids)), features)

    def _inputs(self, layout: Layout, features: PictureFeatures) -> dict[str, object]:
        ids = layout.ids.to(self.device)
        embedded = self.embedding(ids.clamp(min=0))
        if layout.pictures:
            shown = features[list(layout.pictures)].to(self.device, torch.float32)
            tokens = self.projector(shown).to(embedded.dtype)
            embedded = embedded.masked_scatter((ids == IMAGE)[..., None], tokens)
        given: dict[str, object] = {
            "inputs_embeds": embedded,
            "position_ids": layout.positions.to(self.device),
            "past_key_values": self.prefix_cache(len(ids)),
        }
        if layout.visible is not None:
            hidden = torch.finfo(self.dtype).min
            mask = torch.zeros(layout.visible.shape, dtype=self.dtype)
            mask = mask.masked_fill(~layout.visible, hidden)
            given["attention_mask"] = mask[:, None].to(self.device)
        return given

    def prefix_cache(self, rows: int) -> DynamicCache:
        """A fresh cache that holds the shared prefix for each of `rows` rows."""
        layers = [(k.expand(rows, -1, -1, -1), v.expand(rows, -1, -1, -1)) for k, v in self._prefix]
        return DynamicCache(layers) if layers else DynamicCache(config=self.model.config)

    def hidden(
        self, rows: Sequence[Row], features: PictureFeatures
    ) -> tuple[Float[Tensor, "rows t width"], DynamicCache]:
        """The last hidden states (after the final norm) of the rows' own tokens, and the cache that holds them all."""
        out = self.model.base_model(**self.inputs(rows, features), use_cache=True)
        return out.last_hidden_state, out.past_key_values

    def ends(self, rows: Sequence[Row]) -> Int[Tensor, " rows"]:
        """The position of the token that follows each row."""
        return torch.tensor([len(row.ids) for row in rows], device=self.device)

    def logits(self, hidden: Float[Tensor, "n width"]) -> Float[Tensor, "n vocabulary"]:
        """Next-token logits (float32) for a two-dimensional batch of last hidden states."""
        head = self.model.get_output_embeddings()
        assert head is not None
        logits = head(hidden).float()
        cap = getattr(self.model.config, "final_logit_softcapping", None)
        return cap * torch.tanh(logits / cap) if cap else logits

    def answer_loss(self, rows: Sequence[Row], features: PictureFeatures) -> Float[Tensor, ""]:
        """The mean negative log-likelihood of the rows' answer tokens, in nats per token; prompts are not scored.

        What rows about one picture share is computed once (`taxogen.models.packing`).
        """
        layout = self._layout([row.without_last for row in rows])
        hidden = self.model.base_model(**self._inputs(layout, features), use_cache=True).last_hidden_state
        skip = 1 + len(self.prefix_ids)
        lines, columns, targets = torch.tensor(
            [
                (line, places[at - skip], row.ids[at])
                for row, (line, places) in zip(rows, layout.places, strict=True)
                for at in range(row.answer, len(row.ids))
            ],
            device=self.device,
        ).T
        return nn.functional.cross_entropy(self.logits(hidden[lines, columns]), targets)

    def _layout(self, rows: Sequence[Row]) -> Layout:
        longest = max(len(row.ids) for row in rows)
        return smallest(rows, len(self.prefix_ids), lambda: longest <= self._window and self.packs)

    @cached_property
    def packs(self) -> bool:
        """Whether this language model reads packed rows as it reads them one by one, tried on a few tokens."""
        tokens = sample_tokens(self.model, rows=1)[0].tolist()
        rows = [
            Row("", (*tokens[:3], *rest), 3, {"cue": (3,)})
            for rest in (tokens[3:5], tokens[4:6], tokens[5:6])
        ]
        kept, (self.prefix_ids, self._prefix) = (self.prefix_ids, self._prefix), ((), [])
        try:
            with torch.no_grad():
                found = [self._states(arrange(rows, 0)) for arrange in (one_row_each, packed)]
        except (RuntimeError, TypeError, ValueError) as fault:
            log.info("%s takes no mask of its own (%s): rows are not packed", self.lm.name, fault)
            return False
        finally:
            self.prefix_ids, self._prefix = kept
        worst = (found[0] - found[1]).abs().max().item()
        return worst <= 0.02 * found[0].abs().max().item()

    def _states(self, layout: Layout) -> Float[Tensor, "tokens width"]:
        """The last hidden states of the tokens of text rows, one row after the other, in float32."""
        hidden = self.model.base_model(**self._inputs(layout, torch.empty(0))).last_hidden_state
        return torch.cat([hidden[line, list(columns)] for line, columns in layout.places]).float()

    @property
    def _window(self) -> float:
        """How far back every layer of the language model can look, in tokens."""
        config = self.model.config.get_text_config()
        known = (getattr(config, name, None) for name in ("sliding_window", "attention_chunk_size"))
        return min((size for size in known if size), default=math.inf)

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
            "they cannot be distinguished by their first token: put completions to this model (data.task=completion)"
        )
    return yes, no
