"""Path patching: the changed output of senders reaches receivers by the direct path alone, all other parts frozen."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from probing.hooks import Edit
from probing.patching.circuits.ablation import in_batches
from probing.patching.circuits.parts import EMBEDDED, States, by_layer, outputs, sites_of
from probing.patching.restart import TOKENS, Restart
from probing.patching.runs import Read
from probing.sites import Site


@dataclass(frozen=True)
class Paths:
    """Paths from senders at one span to receivers at another (or the same), over the residual stream alone.

    First pass: senders put out what the reference says, every other part what it does in the run as it is, so that only
    the direct path changes what receivers read. Second pass: receivers put out what they did in the first, and all that
    comes after them is computed again. A head reads its queries, keys and values from the changed stream.

    >>> from probing.patching import Answers, Rows, keep
    >>> from probing.patching.circuits import means, outputs
    >>> from transformers import LlamaConfig, LlamaForCausalLM
    >>> size = dict(vocab_size=20, hidden_size=8, intermediate_size=8, num_hidden_layers=2, num_attention_heads=2)
    >>> model = LlamaForCausalLM(LlamaConfig(**size))
    >>> rows = Rows(lambda: {"input_ids": torch.arange(12).reshape(2, 6)}, spans={"noun": (2,), "last": (5,)})
    >>> paths = Paths(Restart(model, keep(model, rows)), means(outputs(model, rows)), "noun", "last")
    >>> first, second = (np.arange(6) // 3 == layer for layer in (0, 1))
    >>> tuple(paths.through(first, second[None], Answers.of(model, [3, 7])).shape)  # receivers, rows, candidates
    (1, 2, 2)

    Attributes:
        restart: of the run as it is.
        reference: site → the changed outputs of senders [rows or 1, tokens after the prefix, ...].
        sender: the span at which senders are changed.
        receiver: the span at which receivers are.

    Source: Wang et al. 2023, arXiv:2211.00593, appendix B; Goldowsky-Dill et al. 2023, arXiv:2304.05969. In the former
    MLPs between sender and receiver are computed again; here they are frozen like heads, and are senders and receivers.
    """

    restart: Restart
    reference: States
    sender: str
    receiver: str

    def through(
        self,
        senders: Bool[np.ndarray, " parts"],
        receivers: Bool[np.ndarray, "sets parts"],
        read: Read,
        *,
        embedded: bool = False,
        tokens: int = TOKENS,
    ) -> Float[Tensor, "sets rows candidates"]:
        """The answers where the senders' change reaches the answer through each set of receivers.

        Args:
            senders: the parts that are changed.
            receivers: sets of parts.
            read: from last hidden states to answers.
            embedded: whether what enters the first block is changed as well: a picture's tokens, or a word.
            tokens: how many at most go through a block at once.

        Raises:
            ValueError: sets over other parts than the model's.
        """
        carried, _ = self._first(senders, embedded)
        at = list(self.restart.kept.rows.positions(self.receiver))
        return in_batches(self.restart, by_layer(receivers, self.restart.model), carried, at, read, tokens)

    def direct(
        self, senders: Bool[np.ndarray, " parts"], read: Read, *, embedded: bool = False
    ) -> Float[Tensor, "rows candidates"]:
        """The answers where the senders' change reaches the last norm over the residual stream, through no part."""
        return read(self._first(senders, embedded)[1])

    @cached_property
    def _own(self) -> dict[str, Tensor]:
        """What every part puts out in the run as it is."""
        return outputs(self.restart.model, self.restart.kept.rows)

    def _first(
        self, senders: Bool[np.ndarray, " parts"], embedded: bool
    ) -> tuple[dict[str, Tensor], Float[Tensor, "rows width"]]:
        """What every part would put out at the receivers' span [1, rows, places, ...]; and the last hidden states."""
        own, seen = self._own, dict[str, Tensor]()  # its pass is run before there are edits
        mask = by_layer(np.asarray(senders)[None], self.restart.model)[:, 0]
        places, at = (list(self.restart.kept.rows.positions(span)) for span in (self.sender, self.receiver))
        start, layers = min(*places, *at), len(mask)
        here, there = ([place - start for place in span] for span in (places, at))

        def changed(site: str, value: Tensor, which: Tensor) -> Tensor:
            new = value.clone(memory_format=torch.contiguous_format)
            source = self.reference[site][:, places].to(new)
            new[:, here] = torch.where(which.to(new.device), source, new[:, here])
            return new

        def frozen(site: str, which: Tensor) -> Edit:
            def put(value: Tensor) -> Tensor:
                seen[site] = value[:, there][None]
                return changed(site, own[site][:, start:], which)

            return put

        def edits(layer: int, _: int) -> dict[str | Site, Edit]:
            heads, mlp = sites_of(layer)
            which = {heads: mask[layer, :-1, None], mlp: mask[layer, -1:]}
            return {site: frozen(str(site), one) for site, one in which.items()}

        def between(hidden: Tensor, layer: int, _: int) -> Tensor:
            return changed(EMBEDDED, hidden, torch.tensor(embedded)) if layer == 0 else hidden

        entered = 0 if embedded else int(mask.any(-1).int().argmax()) if mask.any() else layers
        hidden = self.restart.stacked([entered], start, edits, between)
        before = {site: value[:, at][None] for site, value in own.items() if site != EMBEDDED}
        return before | seen, hidden
