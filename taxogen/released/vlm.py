"""ReleasedVlm: a released vision-language model where the stages of a run expect one that was trained here."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor, nn
from transformers import DynamicCache, PreTrainedModel

from probing.capture.picture_spans import picture_mark, picture_token
from probing.capture.text_stack import handed, stacked
from taxogen.models import tokenizers, weights
from taxogen.models.encoders import Encoder
from taxogen.models.encoders.encoder import Batch, Features
from taxogen.models.features import PictureFeatures
from taxogen.models.projectors import Projector
from taxogen.models.rows import IMAGE, Row
from taxogen.models.vlm import Vlm
from taxogen.questions.prompts import Segments, in_chat
from taxogen.released.loading import Released

HELD = 2**29
"""Bytes of what rows hand to the decoder that are kept, so that a question that is put again encodes no picture."""


class ReleasedVlm(Vlm):
    """A released model: pictures go through its own processor, encoder and projector, as its authors built them.

    Nothing is learned, and no prefix is shared: positions and masks of each row are those that the model itself hands
    its decoder.
    """

    plain = False

    def __init__(self, released: Released, picture: Callable[[int], Image.Image], chat: bool, side: int = 0):
        """Args:
            released: the model.
            picture: the picture of a row's `picture`.
            chat: whether every prompt is the user's turn of the chat template.
            side: to which pictures are squashed before the processor sees them; 0: as they are.

        Raises:
            ValueError: the decoder's own output is not that of the model.
        """
        self.released, self.chat, self.side = released, chat, side
        self.lm, self.projector = released.lm(), cast(Projector, nn.Module())
        self.model = cast(PreTrainedModel, released.text)
        self.embedding = cast(nn.Embedding, released.text.get_input_embeddings())
        self.prefix_ids: tuple[int, ...] = ()
        self._prefix: list[tuple[Tensor, Tensor]] = []
        self._picture, self._mark = picture, picture_mark(released.processor)
        self._token = picture_token(released.processor)
        self._alone = threading.Lock()  # pictures are encoded by several threads, a model's hooks are for one
        self._whole: set[tuple[str, str | None, str]] = set()
        self._slots: dict[int, tuple[int, ...]] = {}
        self._handed: OrderedDict[tuple[int, tuple[int, ...]], dict[str, Any]] = OrderedDict()
        self._check_readout()

    def worded(self, segments: Segments) -> Segments:
        """The texts as this model is given them: in its chat template, or as they are."""
        return in_chat(segments, self.released.processor) if self.chat else segments

    def row(self, item_id: str, segments: Segments, picture: int = -1) -> Row:
        """A prompt and its answer as token ids; a picture as the processor spells it, IMAGE for each of its tokens."""
        slot = None if segments.slot is not None else (IMAGE,) if picture < 0 else self.slot(picture)
        texts = self.worded(segments)
        if texts.slot is not None and texts.before.endswith(" ") and not texts.slot.startswith(" "):
            texts = replace(texts, before=texts.before[:-1], slot=f" {texts.slot}")
        row = self._speller(1).row(item_id, texts, picture, slot)
        if self._token in row.ids:
            raise ValueError(
                f"the prompt {texts.text!r} holds the text that stands for a picture in {self.lm.name}: take another "
                "template (--template)"
            )
        seen = (texts.before, texts.slot, texts.after) in self._whole
        if (picture >= 0 or texts.slot is not None) and texts.image_at == "slot" and not seen:
            self._check_whole(row, texts)
        return row

    def _check_whole(self, row: Row, texts: Segments) -> None:
        """Refuses a prompt whose pieces are not what the processor makes of it in one piece."""
        start, end = self._around
        if texts.slot is None:
            ids = self.processed(self.shown(row.picture), texts.before, texts.after)["input_ids"][0].tolist()
        else:
            ids = list(self.lm.tokenizer(f"{texts.before}{texts.slot}{texts.after}").input_ids)
        own = [self._token if id == IMAGE else id for id in row.prompt.ids]
        whole = ids[start : len(ids) - end]
        if own[len(own) - len(whole) :] != whole:
            raise ValueError(
                f"{type(self.released.processor).__name__} reads {texts.text!r} as {len(whole)} tokens that are not "
                "those of its pieces: this template cannot be put to this model; take another (--template)"
            )
        self._whole.add((texts.before, texts.slot, texts.after))

    def slot(self, picture: int) -> tuple[int, ...]:
        """The token ids that stand for a picture, IMAGE for each that its features replace.

        Raises:
            ValueError: the processor makes no picture token of it.
        """
        if picture not in self._slots:
            ids = self._processed(picture)["input_ids"][0].tolist()
            places = [at for at, id in enumerate(ids) if id == self._token]
            if not places:
                raise ValueError(
                    f"{self.lm.name} expands pictures inside its forward pass (no token {self._token} among its ids): "
                    "the places of a picture's tokens are not known"
                )
            start, end = self._around
            rest = ids[start : len(ids) - end]
            self._slots[picture] = tuple(IMAGE if id == self._token else id for id in rest)
        return self._slots[picture]

    @property
    def _around(self) -> tuple[int, int]:
        """How many special tokens the tokenizer puts before and behind a text."""
        plain = tokenizers.opening(self.lm.tokenizer, "x")
        special = list(self.lm.tokenizer("x").input_ids)
        start = next(at for at in range(len(special)) if special[at : at + len(plain)] == list(plain))
        return start, len(special) - start - len(plain)

    def use_prefix(self, ids: tuple[int, ...]) -> None:
        """Nothing: every row is read from its first token on."""

    def inputs(self, rows: Sequence[Row], features: PictureFeatures) -> dict[str, object]:
        """The arguments of the decoder for a batch of rows: `model(**inputs)`; `features` are not needed."""
        given = stacked([self._given(row) for row in rows])
        return {**given, "past_key_values": DynamicCache()}  # which keeps all keys, behind windows too

    def logits(self, hidden: Float[Tensor, "n width"]) -> Float[Tensor, "n vocabulary"]:
        """Next-token logits (float32) for a two-dimensional batch of last hidden states."""
        return self.released.text.logits(hidden).float()

    def ends(self, rows: Sequence[Row]) -> Int[Tensor, " rows"]:
        """The position of the token that follows each row."""
        ends = []
        for row in rows:
            positions = self._given(row).get("position_ids")
            ends.append(len(row.ids) if positions is None else int(positions.max()) + 1)
        return torch.tensor(ends, device=self.device)

    def _given(self, row: Row) -> dict[str, Any]:
        """What the model hands its decoder for one row."""
        key = (row.picture, row.ids)
        if key not in self._handed:
            self._handed[key] = handed(self.released.model, self._arguments(row))
            while len(self._handed) > 1 and sum(map(_bytes, self._handed.values())) > HELD:
                self._handed.popitem(last=False)
        self._handed.move_to_end(key)
        return self._handed[key]

    def _arguments(self, row: Row) -> dict[str, Any]:
        """The arguments of the whole model for one row: its ids, and what the processor made of its picture."""
        ids = torch.tensor([[self._token if id == IMAGE else id for id in row.ids]], device=self.device)
        inputs: dict[str, Any] = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        if row.picture < 0:
            return inputs
        made = self._processed(row.picture)
        own = made["input_ids"]
        for name, value in self._here(made).items():
            if name.endswith("token_type_ids"):  # such as 1 for those of pictures
                kinds = dict(zip(own[0].tolist(), value[0].tolist(), strict=True))
                value = torch.tensor([[kinds.get(id, 0) for id in ids[0].tolist()]]).to(value)
            inputs.setdefault(name, value)
        return inputs

    def _here(self, made: Mapping[str, Any]) -> dict[str, Tensor]:
        """The tensors that a processor made, on the model's device, features in its number type."""
        tensors = {name: value.to(self.device) for name, value in made.items() if isinstance(value, Tensor)}
        return {
            name: value.to(self.dtype) if value.is_floating_point() else value
            for name, value in tensors.items()
        }

    def _processed(self, picture: int) -> Mapping[str, Any]:
        """What the processor makes of a picture alone."""
        return self.processed(self.shown(picture))

    def shown(self, picture: int) -> Image.Image:
        """The picture of a row as the processor is given it."""
        shown = self._picture(picture)
        return shown.resize((self.side, self.side), Image.Resampling.BICUBIC) if self.side else shown

    def processed(self, shown: Image.Image, before: str = "", after: str = "") -> Mapping[str, Any]:
        """What the processor makes of a picture, and of the texts around it."""
        text = f"{before}{self._mark}{after}"
        return self.released.processor(text=[text], images=[[shown]], return_tensors="pt")

    @property
    def encoder(self) -> Encoder:
        """Encoder, projector and processing as one: a picture to the mean of the tokens that the decoder reads."""
        side = self.released.picture_side
        return Encoder(
            name=f"vlm:{self.lm.name}",
            revision=weights.text_hash([side["weights"], side["config"]])[:16],
            preprocessing=f"{side['processing'][:16]}-{self.side}",
            licence=f"see the model card of {self.lm.name}",
            grid=(1, 1),
            width=self.lm.width,
            prepare=self._pixels,
            forward=self._pooled,
        )

    def _pixels(self, picture: Image.Image) -> np.ndarray:
        if self.side:
            picture = picture.resize((self.side, self.side), Image.Resampling.BICUBIC)
        return np.asarray(picture)

    def _pooled(self, pictures: Batch) -> Features:
        pooled = []
        for pixels in pictures:
            made = self.processed(Image.fromarray(np.asarray(pixels, np.uint8)))
            with self._alone:
                embedded = handed(self.released.model, self._here(made))["inputs_embeds"][0]
            pooled.append(embedded[made["input_ids"][0] == self._token].float().mean(0))
        return torch.stack(pooled)[:, None].cpu().numpy()


def _bytes(value: Any) -> int:
    if isinstance(value, Tensor):
        return value.nbytes
    parts = (
        value.values() if isinstance(value, Mapping) else value if isinstance(value, (list, tuple)) else ()
    )
    return sum(map(_bytes, parts))
