import itertools
from typing import Literal

import numpy as np
import pytest
import torch

from probing.capture import CaptureBatch, capture
from probing.capture.padding import PASS_TOKENS, parts_of
from probing.spans import Row, collate
from tests.probing.tiny_models import tiny


def rows(lengths):
    return [
        Row(tuple(7 + (i * 5 + j) % 50 for j in range(n)), {"last": (n - 1,), "first": (0, 1)})
        for i, n in enumerate(lengths)
    ]


def cost(parts):
    return sum(len(part.rows) * (part.stop - part.start) + PASS_TOKENS for part in parts)


@pytest.mark.parametrize("side", ["left", "right"])
def test_the_parts_hold_every_row_once_and_every_token_of_it(side):
    lengths = [3, 90, 4, 88, 3, 30, 31, 90]
    inputs, _ = collate(rows(lengths), side=side)
    parts = parts_of(inputs, 0)
    assert sorted(np.concatenate([part.rows for part in parts]).tolist()) == list(range(8))
    for part in parts:
        cut = part.inputs(inputs)
        assert cut["attention_mask"].sum(1).tolist() == [lengths[row] for row in part.rows]
        assert cut["input_ids"].shape == cut["position_ids"].shape == cut["attention_mask"].shape
        for ids, mask, row in zip(cut["input_ids"], cut["attention_mask"].bool(), part.rows):
            assert tuple(ids[mask].tolist()) == rows(lengths)[row].ids


def test_no_way_to_cut_is_cheaper():
    lengths = sorted([3, 90, 4, 88, 3, 30, 31, 90])
    inputs, _ = collate(rows(lengths))
    best = min(
        sum(len(group) * group[-1] + PASS_TOKENS for group in groups)
        for cuts in itertools.product([False, True], repeat=7)
        for groups in [np.split(np.array(lengths), np.flatnonzero(cuts) + 1)]
    )
    assert cost(parts_of(inputs, 0)) == best


def test_a_batch_stays_whole_where_cutting_saves_less_than_a_pass_or_could_change_what_the_model_sees():
    near, _ = collate(rows([9, 10, 10, 9]))
    far, _ = collate(rows([5, 90, 5, 90]))
    assert parts_of(near, 0) == []
    assert len(parts_of(far, 0)) == 2
    assert parts_of({**far, "pixel_values": torch.zeros(4, 3)}, 0) == []
    assert parts_of({"input_ids": far["input_ids"]}, 0) == []


def test_padding_on_the_left_stays_where_positions_are_not_given():
    inputs, _ = collate(rows([5, 90, 5, 90]), side="left")
    del inputs["position_ids"]
    assert parts_of(inputs, 0) == []


def test_positions_that_are_not_one_a_token_of_each_row_leave_the_batch_whole():
    far, _ = collate(rows([5, 90, 5, 90]))
    assert len(parts_of(far, 0)) == 2
    assert parts_of({**far, "position_ids": torch.arange(90)[None]}, 0) == []
    assert parts_of({**far, "position_ids": far["position_ids"].expand(3, -1, -1)}, 0) == []
    assert parts_of({**far, "attention_mask": far["attention_mask"].to("meta")}, 0) == []


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("prefix", [False, True])
@pytest.mark.parametrize("family", ["llama", "gemma3", "gpt2"])
def test_a_batch_in_parts_gives_the_values_of_its_rows_one_by_one(tmp_path, family, side, prefix):
    lm = tiny(family, attention="eager")
    sites = ["hook_embed", "blocks.*.*", "blocks.*.attn.hook_pattern", "ln_final.*"]
    asked = rows([5, 50, 6, 48, 5, 49, 7, 50])
    names = [f"i{i}" for i in range(len(asked))]
    pictures = torch.randn(2, 3, 32, generator=torch.Generator().manual_seed(1))
    owner = [0, 1, 0, 1, 1, 0, 0, 1]

    def batch(chosen, side: Literal["left", "right"] = "right"):
        part = [Row(asked[i].ids, asked[i].spans) for i in chosen]
        ids = [names[i] for i in chosen]
        if not prefix:
            inputs, spans = collate(part, side=side)
            return CaptureBatch(inputs, ids, spans)
        part = [
            Row(
                (0, 0, 0, *row.ids),
                {"image": (0, 1, 2), "last": (row.spans["last"][0] + 3,), "across": (2, 3)},
            )
            for row in part
        ]
        inputs, spans = collate(part, side=side, prefix=3)
        words = lm.get_input_embeddings()(inputs.pop("input_ids")).detach()
        return CaptureBatch(
            {**inputs, "inputs_embeds": words},
            ids,
            spans,
            prefix={"inputs_embeds": pictures[[owner[i] for i in chosen]]},
            prefix_rows=list(range(len(chosen))),
        )

    whole = batch(range(8), side)
    assert isinstance(whole.inputs, dict)
    assert len(parts_of(whole.inputs, 3 if prefix else 0)) == 2
    parts = capture(lm, [whole], tmp_path / "parts", sites=sites)
    alone = capture(lm, [batch([i]) for i in range(8)], tmp_path / "alone", sites=sites)
    for site, span in itertools.product(alone.sites, alone.spans):
        a, b = parts.read(site, span), alone.read(site, span)
        width = min(a.shape[-1], b.shape[-1])
        assert not a[..., width:].any()
        assert not b[..., width:].any()
        assert np.abs(a[..., :width] - b[..., :width]).max() <= 1e-5 * max(np.abs(b).max(), 1e-6)
    assert parts.tokens("last").equals(alone.tokens("last"))
