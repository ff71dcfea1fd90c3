import numpy as np
import pytest
import torch

from probing.capture.gathering import AskedTokens
from probing.sites import Site

SITE = Site("hook_resid_post", 0)
CPU = torch.device("cpu")


def value(rows=3, length=6, width=2):
    return torch.arange(rows * length * width, dtype=torch.float32).reshape(rows, length, width)


def pooled(asked, values):
    return {span: rows.numpy() for span, rows in pool(asked, values).items()}


def pool(asked, values):
    return asked.pool([(asked.in_part(None), asked.take_rest(CPU)(SITE, values))])


def test_each_pooling_gives_what_its_name_says():
    spans = {"m": [[0, 1], [2], [3, 4, 5]], "l": [[0, 1], [2], [3, 4, 5]], "a": [[1, 0], [5], []]}
    asked = AskedTokens.of(spans, {"m": "mean", "l": "last", "a": "all"}, length=6)
    values = value()
    found = pooled(asked, values)
    numbers = values.numpy()
    assert np.array_equal(found["m"], [numbers[0, :2].mean(0), numbers[1, 2], numbers[2, 3:].mean(0)])
    assert np.array_equal(found["l"], [numbers[0, 1], numbers[1, 2], numbers[2, 5]])
    assert np.array_equal(found["a"], [numbers[0, 1], numbers[0, 0], numbers[1, 5]])
    positions = asked.token_positions()
    assert [row.tolist() for row in positions["l"]] == [[1], [2], [5]]
    assert [row.tolist() for row in positions["a"]] == [[1, 0], [5], []]


def test_values_are_copied_out_of_the_pass():
    asked = AskedTokens.of({"l": [[1], [1], [1]]}, {"l": "last"}, length=6)
    values = value()
    found = asked.take_rest(CPU)(SITE, values)
    values.zero_()
    assert found.abs().sum() > 0


def test_means_of_narrow_values_are_taken_in_float32():
    asked = AskedTokens.of({"m": [[0, 1, 2]]}, {"m": "mean"}, length=3)
    values = torch.tensor([[[60000.0], [60000.0], [60000.0]]], dtype=torch.float16)
    (mean,) = pool(asked, values).values()
    assert mean.dtype == torch.float32
    assert (
        mean.item() == 59.0 * 1024 - 416
    )  # 60000, the nearest float16; in float16 the sum would be infinite


def test_ragged_and_even_means_agree():
    rng = np.random.default_rng(0)
    values = torch.from_numpy(rng.standard_normal((2, 9, 4), dtype=np.float32))
    even = AskedTokens.of({"m": [[1, 2, 3], [4, 5, 6]]}, {"m": "mean"}, length=9)
    ragged = AskedTokens.of({"m": [[1, 2, 3], [4, 5, 6, 7]]}, {"m": "mean"}, length=9)
    assert np.allclose(pooled(even, values)["m"][0], pooled(ragged, values)["m"][0], atol=1e-6)


def test_positions_are_counted_without_padding():
    real = np.array([[0, 0, 1, 1, 1], [1, 1, 1, 1, 0]], dtype=bool)
    asked = AskedTokens.of({"a": [[2, 4], [0, 3]]}, {"a": "all"}, length=5, real=real)
    assert [row.tolist() for row in asked.token_positions()["a"]] == [[0, 2], [0, 3]]


def test_prefix_and_rest_are_put_together():
    asked = AskedTokens.of(
        {"a": [[0, 2, 5], [1, 4], [3]]}, {"a": "all"}, length=6, offset=3, prefix_rows=[1, 0, 1]
    )
    assert asked.in_prefix.tolist() == [0, 1, 3]
    assert asked.in_part(None).tolist() == [2, 4, 5]
    prefix, rest = value(2, 3), value(3, 3) + 1000
    before = (asked.in_prefix, asked.take_prefix(CPU)(SITE, prefix))
    merged = asked.pool([before, (asked.in_part(None), asked.take_rest(CPU)(SITE, rest))])["a"]
    expected = [prefix[1, 0], prefix[1, 2], rest[0, 2], prefix[0, 1], rest[1, 1], rest[2, 0]]
    assert torch.equal(merged, torch.stack(expected))


def test_patterns_are_over_the_keys_without_padding():
    real = np.array([[0, 0, 1, 1], [1, 1, 1, 0]], dtype=bool)
    pattern = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    asked = AskedTokens.of({"a": [[3], [2]]}, {"a": "all"}, length=4, real=real)
    taken = asked.take_rest(CPU)(Site("attn.hook_pattern", 0), pattern)
    assert taken.shape == (2, 3, 16)
    assert torch.equal(taken[0, :, :2], pattern[0, :, 3, 2:])
    assert torch.equal(taken[1, :, :3], pattern[1, :, 2, :3])


def test_patterns_of_a_sliding_window_stand_at_their_keys():
    """Three tokens behind a prefix of four; the window has let go of the first two keys."""
    pattern = torch.rand(1, 2, 3, 5, generator=torch.Generator().manual_seed(0))
    asked = AskedTokens.of({"a": [[4, 6]]}, {"a": "all"}, length=7, offset=4)
    taken = asked.take_rest(CPU)(Site("attn.hook_pattern", 0), pattern)
    assert not taken[..., :2].any()
    assert torch.equal(taken[0, :, 2:7], pattern[0, :, 0])
    assert torch.equal(taken[1, :, 2:7], pattern[0, :, 2])


@pytest.mark.parametrize(
    ("spans", "message"),
    [
        ({"m": [[]]}, "span 'm' is empty in row 0"),
        ({"m": [[0, 6]]}, "spans reach positions 0 to 6; the sequence has 4"),
        ({"m": [[-1]]}, "spans reach positions -1 to -1"),
        ({"m": [[0]]}, r"touches padding: row 0, position 0 .* left padding shifts"),
        ({"n": [[1]]}, "every batch needs the spans m; this one has n"),
    ],
)
def test_refusals(spans, message):
    with pytest.raises(ValueError, match=message):
        AskedTokens.of(spans, {"m": "mean"}, length=4, real=np.array([[False, True, True, True]]))
