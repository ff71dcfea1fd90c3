"""Packed rows: the loss, and the gradients of the projector, are those of rows one by one."""

import itertools

import pytest
import torch

from taxogen.models import lms
from taxogen.models.packing import one_row_each, packed
from taxogen.models.projectors import Projector
from taxogen.models.rows import IMAGE, Row, common_prefix
from taxogen.models.vlm import Vlm
from taxogen.questions import prompts
from taxogen.stages.train import batch_indices, subjects

NAMES = ("crow", "pea", "apple tomato", "apple banana", "bird", "animal", "fruit", "a bird of fruit")


def vlm_of(folder, **settings):
    torch.manual_seed(1)
    lm = lms.load(str(folder), dtype=torch.float32, **settings)
    return Vlm(lm, Projector("gelu-mlp", (4, 6), (4, lm.width), 0, scale=0.2))


@pytest.fixture
def vlm(toy_lm):
    return vlm_of(toy_lm)


@pytest.fixture
def features():
    return torch.randn(4, 4, 6, generator=torch.Generator().manual_seed(2))


def drawn_rows(vlm, seed, count=12):
    """Completions and questions about three pictures, and names in their place, in mixed order, some of them twice."""
    generator = torch.Generator().manual_seed(seed)

    def one_of(options):
        return options[torch.randint(len(options), (), generator=generator).item()]

    rows = []
    for number in range(count):
        noun, subject, modality = one_of(NAMES), one_of(NAMES[:2]), one_of(("image", "image", "text"))
        prompt = one_of(("kind", "the_kind", "called", "is_there", "study"))
        if prompt == "study":
            modality = "image"
        answer = one_of(("Yes", "No")) if prompts.template(prompt).answers else noun
        text = prompts.segments(
            prompt, leaf=subject, hypernym=noun, asked=noun, answer=answer, modality=modality
        )
        rows.append(vlm.row(str(number), text, one_of((0, 1, 3)) if modality == "image" else -1))
    return rows


def loss_and_gradients(vlm, rows, features):
    vlm.use_prefix(common_prefix(rows))
    vlm.projector.zero_grad()
    loss = vlm.answer_loss(rows, features)
    loss.backward()
    return [loss.detach(), *(weight.grad.clone() for weight in vlm.projector.parameters())]


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("seed", range(5))
def test_loss_and_gradients_are_those_of_rows_one_by_one(toy_lm, features, seed, attention):
    vlm = vlm_of(toy_lm, attention=attention)
    rows = drawn_rows(vlm, seed)
    assert vlm.packs
    assert packed(rows, 0).ids.numel() < one_row_each(rows, 0).ids.numel()
    together = loss_and_gradients(vlm, rows, features)
    vlm.packs = False
    for found, expected in zip(together, loss_and_gradients(vlm, rows, features), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


def test_what_rows_share_stands_once_and_a_token_sees_its_own_row_alone():
    spans = {"cue": (3,)}
    shared = (7, IMAGE, IMAGE)
    rows = [Row("a", (*shared, 1, 2), 4, spans, 5), Row("b", (*shared, 1, 3), 4, spans, 5)]
    rows += [Row("c", (*shared, 4), 4, spans, 5), Row("d", (*shared, 4), 4, spans, 2)]
    rows += [Row("e", (*shared, 4), 4, spans, 3)]
    layout = packed(rows, prefix=1)
    assert layout.ids.tolist() == [[IMAGE, IMAGE, 1, 2, 3, 4], [IMAGE, IMAGE, 4, IMAGE, IMAGE, 4]]
    assert layout.positions.tolist() == [[1, 2, 3, 4, 4, 3], [1, 2, 3, 1, 2, 3]]
    assert layout.pictures == (5, 2, 3)
    assert [(line, list(columns)) for line, columns in layout.places] == [
        (0, [0, 1, 2, 3]),
        (0, [0, 1, 2, 4]),
        (0, [0, 1, 5]),
        (1, [0, 1, 2]),
        (1, [3, 4, 5]),
    ]
    assert layout.visible is not None
    assert layout.visible[..., 0].all()
    assert layout.visible[0, 4, 1:].tolist() == [True, True, True, False, True, False]
    assert layout.visible[0, 5, 1:].tolist() == [True, True, False, False, False, True]
    assert layout.visible[1, 4, 1:].tolist() == [False, False, False, True, True, False]


def test_rows_that_share_nothing_are_not_masked(vlm, features):
    rows = [vlm.row(str(i), prompts.segments("called", leaf=NAMES[i]), i) for i in range(3)]
    assert vlm._layout(rows).visible is None
    assert vlm._layout([*rows, rows[0]]).visible is not None


def test_a_language_model_that_does_not_read_packed_rows_gets_them_one_by_one(vlm, features, monkeypatch):
    rows = drawn_rows(vlm, seed=0)
    expected = loss_and_gradients(vlm, rows, features)[0]
    other = Vlm(vlm.lm, vlm.projector)
    forward = vlm.model.base_model.forward
    monkeypatch.setattr(
        vlm.model.base_model, "forward", lambda *a, attention_mask=None, **kw: forward(*a, **kw)
    )
    assert not other.packs
    torch.testing.assert_close(loss_and_gradients(other, rows, features)[0], expected)


def test_rows_longer_than_the_window_of_attention_are_not_packed(vlm, features):
    rows = drawn_rows(vlm, seed=0)
    vlm.model.config.sliding_window = 5
    longest = max(len(row.ids) for row in rows)
    assert vlm._layout(rows).visible is None
    vlm.model.config.sliding_window = longest + 1
    assert vlm._layout(rows).visible is not None


@pytest.mark.parametrize("seed", range(3))
def test_each_epoch_shows_every_row_once_and_a_pictures_rows_together(vlm, seed):
    rows = drawn_rows(vlm, seed, count=21)
    numbers = subjects(rows, "pictures")
    seen = [row for step in range(21) for row in batch_indices(numbers, 2, step, seed)]
    first, second = seen[:21], seen[21:42]
    assert sorted(first) == sorted(second) == list(range(21))
    assert first != second
    shown = [numbers[row] for row in first]
    assert len(list(itertools.groupby(shown))) == len(set(numbers))
    pictures = {number: {rows[at].picture for at in range(21) if numbers[at] == number} for number in numbers}
    assert all(len(of_one) == 1 for of_one in pictures.values())


def test_items_are_shuffled_one_by_one_on_request(vlm):
    rows = drawn_rows(vlm, 0)
    assert subjects(rows, "items") == list(range(len(rows)))
