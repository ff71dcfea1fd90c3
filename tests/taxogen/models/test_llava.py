"""The same weights as an independent implementation: transformers' LLaVA gives the same logits, loss and gradients."""

import pytest
import torch
from torch import nn
from transformers import AutoConfig, CLIPVisionConfig, LlavaConfig, LlavaForConditionalGeneration

from taxogen.models import lms
from taxogen.models.projectors import Projector
from taxogen.models.rows import IMAGE, Row, common_prefix
from taxogen.models.vlm import Vlm
from taxogen.questions import prompts

PATCHES, WIDTH = 4, 24


@pytest.fixture(params=["linear", "gelu-mlp"])
def both(request, asking_lm) -> tuple[Vlm, LlavaForConditionalGeneration]:
    """A VLM of ours, and LLaVA with its language model and projector."""
    torch.manual_seed(3)
    lm = lms.load(str(asking_lm), dtype=torch.float32)
    vlm = Vlm(lm, Projector(request.param, (PATCHES, WIDTH), (PATCHES, lm.width), 0, None))
    vision = CLIPVisionConfig(
        hidden_size=WIDTH,
        intermediate_size=48,
        num_hidden_layers=3,
        num_attention_heads=2,
        image_size=28,
        patch_size=14,
    )
    config = LlavaConfig(
        vision_config=vision,
        text_config=AutoConfig.from_pretrained(asking_lm),
        image_token_index=lm.tokenizer.convert_tokens_to_ids("owl"),  # no row has this word
    )
    config._attn_implementation = "eager"
    llava = LlavaForConditionalGeneration(config).eval()
    llava.model.language_model.load_state_dict(lm.model.base_model.state_dict())
    llava.lm_head.load_state_dict(lm.model.get_output_embeddings().state_dict())
    theirs, ours = llava.model.multi_modal_projector, vlm.projector.net
    if request.param == "linear":
        theirs.linear_1, theirs.act, theirs.linear_2 = (
            nn.Linear(WIDTH, lm.width),
            nn.Identity(),
            nn.Identity(),
        )
        theirs.linear_1.load_state_dict(ours.state_dict())
    else:
        theirs.linear_1.load_state_dict(ours[0].state_dict())
        theirs.linear_2.load_state_dict(ours[2].state_dict())
    return vlm, llava


def rows_of(vlm: Vlm, place: str) -> list[Row]:
    """Questions about three pictures, with answers of one and two tokens and the end token."""
    if place == "slot":
        return [
            vlm.row(leaf, prompts.segments("called", leaf=leaf), at)
            for at, leaf in enumerate(("crow", "apple banana", "pea"))
        ]
    return [
        vlm.row(f"{leaf}{at}", prompts.segments("study_leaf", leaf=leaf, asked=leaf, answer=answer), at)
        for at, (leaf, answer) in enumerate((("crow", "Yes"), ("pear", "No"), ("pea", "Yes")))
    ]


@pytest.mark.parametrize("place", ["slot", "after_first_token", "first"])
def test_logits_loss_and_gradients_are_those_of_llava(both, place):
    vlm, llava = both
    rows = rows_of(vlm, "slot" if place == "first" else place)
    if place == "first":  # no token before the picture
        spans = {"image": tuple(range(PATCHES)), "cue": (PATCHES,)}
        rows = [Row(row.item_id, row.ids[2:], row.answer - 2, spans, row.picture) for row in rows]
    pixels = torch.randn(3, 3, 28, 28)
    with torch.no_grad():
        states = llava.model.vision_tower(pixels, output_hidden_states=True).hidden_states
    features = states[llava.config.vision_feature_layer][:, 1:]
    vlm.use_prefix(common_prefix(rows))
    ours = vlm.answer_loss(rows, features)
    ours.backward()
    total, count, logits = torch.zeros(()), 0, []
    for row in rows:
        ids = torch.tensor([[llava.config.image_token_id if one == IMAGE else one for one in row.ids]])
        out = llava(input_ids=ids, pixel_values=pixels[[row.picture]])
        logits.append(out.logits[0])
        answer = range(row.answer, len(row.ids))
        predicted = out.logits[0, row.answer - 1 : -1]
        total = total + nn.functional.cross_entropy(predicted, ids[0, row.answer :], reduction="sum")
        count += len(answer)
    (total / count).backward()
    torch.testing.assert_close(ours, total / count, rtol=1e-5, atol=1e-5)
    with torch.no_grad():
        hidden, _ = vlm.hidden(rows, features)
    skip = len(vlm.prefix_ids)
    for at, (row, expected) in enumerate(zip(rows, logits, strict=True)):
        own = vlm.logits(hidden[at, : len(row.ids) - skip])
        torch.testing.assert_close(own, expected[skip:], rtol=1e-5, atol=1e-5)
    pairs = zip(vlm.projector.parameters(), llava.model.multi_modal_projector.parameters(), strict=True)
    for weight, other in pairs:
        assert weight.grad is not None
        assert other.grad is not None
        assert weight.grad.abs().max() > 1e-3
        torch.testing.assert_close(weight.grad, other.grad, rtol=1e-5, atol=1e-5)
