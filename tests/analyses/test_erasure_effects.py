"""Effects of erasure for pooling: changes of leaves under a hypernym, beyond leaves off it and beyond controls."""

import numpy as np
import pandas as pd
import pytest

from analyses.erasure.effects import edit_effects

LEAVES = {"crow": True, "wren": True, "trout": False, "oak": False}
CHANGE = {"none": 0.0, "erased": -4.0, "random": -1.0, "shuffled": -2.0}
"""Of the hypernym's log-odds for leaves under it; for leaves off it a quarter of that."""


def parts(unreached: str = "") -> pd.DataFrame:
    """Read-outs of four leaves under each edit, two draws of each control."""
    rows = []
    for edit, change in CHANGE.items():
        for draw in range(2 if edit in ("random", "shuffled") else 1):
            about = {"layer": 3, "span": "slot", "edit": edit, "draw": draw, "hypernym": "bird"}
            about |= {
                "matched": "" if edit == "none" else "kl",
                "beside": "",
                "reached": edit != unreached or draw == 0,
            }
            for at, (leaf, under) in enumerate(LEAVES.items()):
                moved = change * (1.0 if under else 0.25) + (0.5 if draw else 0.0)
                rows.append(
                    {
                        **about,
                        "leaf": leaf,
                        "member": under,
                        "target": at + moved,
                        "leaf_margin": at + 2 * change,
                    }
                )
    return pd.DataFrame(rows)


def values(effects, measure, state):
    chosen = (effects.cells["measure"] == measure) & (effects.cells["state"] == state)
    (found,) = effects.values[chosen]
    return dict(zip(effects.units["leaf"], found))


def test_changes_are_those_beyond_leaves_off_the_hypernym_and_beyond_controls():
    effects = edit_effects(parts(), steered=False)
    assert set(effects.units["leaf"]) == {"crow", "wren"}
    assert values(effects, "hypernym_change", "") == {
        "crow": pytest.approx(-3.0),
        "wren": pytest.approx(-3.0),
    }
    beyond = values(effects, "hypernym_change", "random, same kl")
    assert list(beyond.values()) == pytest.approx(
        [-3.0 + 0.75] * 2
    )  # draws move leaves under and off it alike by .5
    assert list(values(effects, "leaf_change", "shuffled, same kl").values()) == pytest.approx([-4.0] * 2)


def test_nothing_is_beyond_a_control_of_which_a_draw_does_not_equal_the_edit():
    effects = edit_effects(parts(unreached="shuffled"), steered=False)
    assert np.isnan(list(values(effects, "hypernym_change", "shuffled, same kl").values())).all()
    assert np.isfinite(list(values(effects, "hypernym_change", "random, same kl").values())).all()
    assert np.isfinite(list(values(effects, "hypernym_change", "").values())).all()
