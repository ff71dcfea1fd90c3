import pytest
import torch

from taxogen.answers.readout import log_probs
from taxogen.models import lms
from taxogen.models.projectors import Projector
from taxogen.models.rows import IMAGE, common_prefix
from taxogen.models.vlm import Vlm
from taxogen.questions import prompts


@pytest.fixture
def vlm(toy_lm):
    lm = lms.load(str(toy_lm), dtype=torch.float32)
    torch.manual_seed(1)
    return Vlm(lm, Projector("flat-gelu-mlp", (1, 6), (3, 32), 16, scale=0.2))


@pytest.fixture
def features():
    return torch.randn(4, 1, 6, generator=torch.Generator().manual_seed(2))


def picture_row(vlm, leaf, picture, prompt="called"):
    return vlm.row(f"{leaf}{picture}", prompts.segments(prompt, leaf=leaf), picture)


def whole_log_probs(vlm, row, features):
    """The answer's log-probability from one plain forward pass over the whole sequence, without cache or padding."""
    ids = torch.tensor([row.ids])
    embedded = vlm.embedding(ids.clamp(min=0))
    if row.picture >= 0:
        embedded[ids == IMAGE] = vlm.projector(features[[row.picture]])[0]
    scores = vlm.model(inputs_embeds=embedded).logits[0].log_softmax(-1)
    return torch.stack([scores[j - 1, row.ids[j]] for j in range(row.answer, len(row.ids))]).sum()


def test_each_image_token_has_the_size_of_the_embedding_table(vlm, features):
    tokens = vlm.projector(features)
    assert tokens.shape == (4, 3, 32)
    torch.testing.assert_close(tokens.square().mean(-1).sqrt(), torch.full((4, 3), 0.2), rtol=1e-4, atol=0)


def test_the_picture_stands_in_the_slot_and_the_spans_say_where(vlm):
    row = picture_row(vlm, "crow", 0)
    words = [vlm.lm.tokenizer.convert_ids_to_tokens(i) if i != IMAGE else "*" for i in row.ids]
    assert words == ["<s>", "A", "*", "*", "*", "is", "also", "called", "crow"]
    assert row.spans == {"image": (2, 3, 4), "cue": (5, 6, 7), "last": (7,)}
    assert row.ids[row.answer :] == vlm.tokens("crow")


def test_a_text_row_differs_from_its_picture_row_in_the_slot_alone(vlm):
    picture = picture_row(vlm, "crow", 0)
    text = vlm.row("t", prompts.segments("called", leaf="crow", modality="text"))
    assert text.spans["noun"] == (2,)
    assert [i for i in picture.ids if i != IMAGE] == [*text.ids[:2], *text.ids[3:]]


def test_the_loss_with_shared_prefix_and_padding_is_that_of_plain_forward_passes(vlm, features):
    rows = [picture_row(vlm, "crow", 0), picture_row(vlm, "apple banana", 1), picture_row(vlm, "pea", 2)]
    vlm.use_prefix(common_prefix(rows))
    assert vlm.prefix_ids == rows[0].ids[:2]
    expected = -sum(whole_log_probs(vlm, row, features) for row in rows) / 4
    torch.testing.assert_close(vlm.answer_loss(rows, features), expected, rtol=1e-5, atol=1e-6)


def test_only_the_projector_learns(vlm, features):
    rows = [picture_row(vlm, "crow", 0), picture_row(vlm, "pea", 2)]
    before = vlm.lm.weight_hash()
    vlm.use_prefix(common_prefix(rows))
    vlm.answer_loss(rows, features).backward()
    assert all(parameter.grad is not None for parameter in vlm.projector.parameters())
    assert all(parameter.grad is None for parameter in vlm.model.parameters())
    assert vlm.lm.weight_hash() == before


def test_read_outs_equal_plain_forward_passes(vlm, features):
    rows = [picture_row(vlm, "crow", 0, "kind"), picture_row(vlm, "pea", 3, "kind")]
    rows.append(vlm.row("t", prompts.segments("kind", leaf="apple tomato", modality="text")))
    answers = ["bird", "fruit", "fruit vegetable", "bird of fruit"]
    found = log_probs(vlm, rows, features, [vlm.tokens(answer) for answer in answers])
    for at, row in enumerate(rows):
        for column, answer in enumerate(answers):
            whole = type(row)(
                row.item_id, row.prompt.ids + vlm.tokens(answer), row.answer, row.spans, row.picture
            )
            assert found[at, column] == pytest.approx(
                whole_log_probs(vlm, whole, features).item(), rel=1e-4, abs=1e-5
            )


def test_pairs_that_are_not_asked_are_undefined(vlm, features):
    import numpy as np

    asked = np.array([[True, False], [False, True]])
    rows = [picture_row(vlm, "crow", 0, "kind"), picture_row(vlm, "pea", 3, "kind")]
    found = log_probs(vlm, rows, features, [vlm.tokens("bird"), vlm.tokens("fruit pea")], asked)
    assert (np.isfinite(found) == asked).all()
