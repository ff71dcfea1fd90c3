"""What capture stores equals whole rows in the model's own forward: own positions, windows, prefixes; or is refused."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import transformers as hf
from tiny_models import SMALL, tiny

from probing.capture import CaptureBatch, capture, loop
from probing.hooks.verify import verify
from probing.spans import Row, collate

IMAGE = 119


def picture_rows(lengths):
    """Rows with four picture tokens and texts of the given lengths."""
    return [
        Row((5, 117, *[IMAGE] * 4, *range(7 + i, 7 + i + n)), {"last": (5 + n,), "image": (2, 3, 4, 5)})
        for i, n in enumerate(lengths)
    ]


def pictures(count):
    generator = torch.Generator().manual_seed(3)
    return {
        "pixel_values": torch.randn(16 * count, 48, generator=generator),
        "image_grid_thw": torch.tensor([[1, 4, 4]] * count),
    }


def own_states(lm, row, pixels):
    """The states of the model's own forward over one row: block inputs, and the last norm."""
    ids = torch.tensor([row.ids])
    with torch.no_grad():
        given = {"input_ids": ids, "mm_token_type_ids": (ids == IMAGE).int()}
        return lm(**given, **pixels, output_hidden_states=True).hidden_states


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("name", ["qwen2_5_vl", "qwen3_vl"])
@pytest.mark.parametrize("lengths", [[4], [3, 9, 5]])
def test_positions_of_models_that_make_their_own_are_left_to_them(tmp_path, name, side, lengths):
    lm = tiny(name)
    rows = picture_rows(lengths)
    inputs, spans = collate(rows, side=side)
    assert "position_ids" in inputs
    assert "position_ids" not in collate(rows, side=side, model=lm)[0]
    pixels = pictures(len(rows))
    inputs |= {"mm_token_type_ids": (inputs["input_ids"] == IMAGE).int()} | pixels
    sites = ["blocks.1.hook_resid_pre", "ln_final.*"]
    store = capture(lm, [CaptureBatch(inputs, [f"i{n}" for n in lengths], spans)], tmp_path, sites=sites)
    for i, row in enumerate(rows):
        one = {
            "pixel_values": pixels["pixel_values"][16 * i : 16 * i + 16],
            "image_grid_thw": torch.tensor([[1, 4, 4]]),
        }
        expected = own_states(lm, row, one)[-1][0, row.spans["last"][0]].numpy()
        found = store.read("ln_final.hook_normalized", "last")[i]
        assert np.abs(found - expected).max() <= (0 if len(rows) == 1 else 1e-5 * np.abs(expected).max())


def test_questions_behind_a_picture_go_on_at_the_models_own_positions(tmp_path):
    lm = tiny("qwen2_5_vl")
    rows = picture_rows([3, 9, 5, 4])
    rows = [replace(row, ids=(*rows[0].ids[:6], *row.ids[6:])) for row in rows]
    inputs, spans = collate(rows, side="left", prefix=6)
    first = torch.tensor([rows[0].ids[:6]] * 2)
    pixels = pictures(2)
    prefix = {"input_ids": first, "mm_token_type_ids": (first == IMAGE).int(), **pixels}
    owner = [1, 0, 1, 1]
    batch = CaptureBatch(inputs, list("abcd"), spans, prefix=prefix, prefix_rows=owner)
    store = capture(lm, [batch], tmp_path, sites="ln_final.*")
    for i, row in enumerate(rows):
        part = slice(16 * owner[i], 16 * owner[i] + 16)
        one = {"pixel_values": pixels["pixel_values"][part], "image_grid_thw": torch.tensor([[1, 4, 4]])}
        expected = own_states(lm, row, one)[-1][0, row.spans["last"][0]].numpy()
        assert np.abs(store.read("ln_final.hook_normalized", "last")[i] - expected).max() <= 1e-5


WINDOWED = {
    "mistral": lambda: hf.MistralConfig(**SMALL, sliding_window=6),
    "gemma2": lambda: hf.Gemma2Config(**SMALL, head_dim=8, query_pre_attn_scalar=8, sliding_window=6),
    "gemma3": lambda: hf.Gemma3TextConfig(**SMALL, head_dim=8, query_pre_attn_scalar=8, sliding_window=6),
    "phi3": lambda: hf.Phi3Config(**SMALL, sliding_window=6),
    "olmo3": lambda: hf.Olmo3Config(**SMALL, sliding_window=6),
    "cohere2": lambda: hf.Cohere2Config(**SMALL, sliding_window=6),
}


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("name", WINDOWED)
@pytest.mark.filterwarnings("ignore:the model family")
def test_padding_behind_a_prefix_stands_in_no_window(tmp_path, name, side):
    torch.manual_seed(0)
    lm = hf.AutoModelForCausalLM.from_config(WINDOWED[name]()).eval()
    rows = [
        Row((*range(10, 14), *range(20 + i, 20 + i + n)), {"last": (3 + n,)}) for i, n in enumerate([9, 2, 4])
    ]
    inputs, spans = collate(rows, side=side, prefix=4)
    batch = CaptureBatch(inputs, list("abc"), spans, prefix={"input_ids": torch.tensor([rows[0].ids[:4]])})
    store = capture(lm, [batch], tmp_path, sites="ln_final.*")
    for i, row in enumerate(rows):
        with torch.no_grad():
            expected = lm.base_model(torch.tensor([row.ids])).last_hidden_state[0, -1].numpy()
        found = store.read("ln_final.hook_normalized", "last")[i]
        assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()


def paligemma():
    vision = hf.SiglipVisionConfig(
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        image_size=8,
        patch_size=4,
        vision_use_head=False,
    )
    config = hf.PaliGemmaConfig(
        vision_config=vision,
        text_config=hf.GemmaConfig(**SMALL, head_dim=8),
        image_token_index=IMAGE,
        projection_dim=32,
    )
    torch.manual_seed(0)
    return hf.PaliGemmaForConditionalGeneration(config).eval()


def test_a_bidirectional_prompt_shares_no_prefix(tmp_path, monkeypatch):
    lm = paligemma()
    ids = torch.tensor([[*[IMAGE] * 4, 7, 8, 9]])
    inputs = {
        "input_ids": ids,
        "token_type_ids": torch.zeros_like(ids),
        "pixel_values": torch.randn(1, 3, 8, 8),
    }
    red = [check.name for check in verify(lm, inputs=inputs).checks if not check.holds]
    assert red == ["shared prefix of 5 tokens = none"]
    monkeypatch.setattr(loop.HookRecorder, "verify", lambda self: None)  # text alone it masks in two ways
    whole = capture(
        lm, [CaptureBatch(inputs, ["a"], {"last": [(6,)]})], tmp_path / "whole", sites="ln_final.*"
    )
    with torch.no_grad():
        expected = lm.base_model(**inputs).last_hidden_state[0, -1].numpy()
    assert np.array_equal(whole.read("ln_final.hook_normalized", "last")[0], expected)
    prefix = {**inputs, "input_ids": ids[:, :5], "token_type_ids": torch.zeros(1, 5).long()}
    batch = CaptureBatch({"input_ids": ids[:, 5:]}, ["a"], {"last": [(6,)]}, prefix=prefix)
    with pytest.raises(ValueError, match=r"other states than in one go .* bidirectional"):
        capture(lm, [batch], tmp_path / "shared", sites="ln_final.*")
    assert not list((tmp_path / "shared").glob("shard*"))


@pytest.mark.parametrize("name", ["qwen2_5_vl", "qwen3_vl"])
def test_verify_runs_on_rows_with_pictures(name):
    lm = tiny(name)
    inputs, _ = collate(picture_rows([3, 6]), side="left")
    inputs |= {"mm_token_type_ids": (inputs["input_ids"] == IMAGE).int(), **pictures(2)}
    report = verify(lm, inputs=inputs, prefix=6)
    assert [c.name for c in report.checks if not c.holds] == (
        ["hidden_states = resid_pre of each block, then ln_final"] if name == "qwen3_vl" else []
    )
    shifted = {**inputs, "position_ids": inputs["position_ids"] * 2}
    assert "given positions = the model's own" in [
        c.name for c in verify(lm, inputs=shifted).checks if not c.holds
    ]
