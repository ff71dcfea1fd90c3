"""Panels that several questions share: their line of nothing, their title."""

import pytest
from matplotlib.figure import Figure

from analyses.frame.drawing import panels


def heights(axes):
    return [line.get_ydata()[0] for line in axes.get_lines()]


def test_a_panel_has_its_title_and_a_line_at_no_effect_unless_told_otherwise():
    first, second, third = Figure().subplots(1, 3)
    panels.frame(first, "slot")
    assert first.get_title() == "slot"
    assert heights(first) == [0.0]
    panels.frame(second, "cue", null=0.5)
    assert heights(second) == [0.5]
    panels.frame(third, "last", null=None)
    assert heights(third) == []


@pytest.mark.parametrize(
    ("site", "words"),
    [
        ("hook_embed", "the input of block 0"),
        ("blocks.12.hook_resid_post", "block 12"),
        ("blocks.3.hook_attn_out", "block 3, attn out"),
        ("blocks.3.attn.hook_z#5", "block 3, z 5"),
        ("ln_final.hook_normalized", "ln final normalized"),
    ],
)
def test_sites_are_named_in_words(site, words):
    assert panels.place_of(site) == words
