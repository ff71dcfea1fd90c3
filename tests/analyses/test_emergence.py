"""Curves of several seeds become one, between their mean limits; onsets keep their widest interval."""

import pandas as pd

from analyses import emergence
from analyses.emergence.rows import over_seeds


def rows(run, seed, **values):
    common = {
        "run": run,
        "analysis": "layer_probes",
        "condition": "pretrained",
        "span": "cue",
        "modality": "image",
    }
    common |= {"target": "mean", "probe": "ridge", "split": "leaf", "seed": seed, "step": 10, "n": 12}
    for (measure, site, layer), (value, lower, upper) in values["table"].items():
        yield common | {
            "measure": measure, "site": site, "layer": layer, "value": value, "lower": lower, "upper": upper
        }  # fmt: skip


def two_seeds():
    post = ("auroc", "blocks.0.hook_resid_post", 0.0)
    onset = ("onset", "", float("nan"))
    first = {post: (0.6, 0.5, 0.7), onset: (2.0, 1.0, 3.0)}
    second = {post: (0.8, 0.6, 0.9), onset: (4.0, 2.0, float("inf"))}
    return pd.DataFrame([*rows("a-0", 0, table=first), *rows("a-1", 1, table=second)])


def test_seeds_are_averaged():
    found = over_seeds(two_seeds()).set_index("measure")
    assert found.loc["auroc", "seeds"] == 2
    assert (
        abs(found.loc["auroc", ["value", "lower", "upper"]].to_numpy(float) - [0.7, 0.55, 0.8]).max() < 1e-12
    )
    assert list(found.loc["onset", ["value", "lower", "upper"]]) == [3.0, 1.0, float("inf")]


def test_one_seed_stays_as_it_is():
    one = two_seeds().query("run == 'a-0'")
    found = over_seeds(one)
    pd.testing.assert_frame_equal(found[["value", "lower", "upper"]], one[["value", "lower", "upper"]])


def test_the_summary_has_a_line_per_curve_not_per_seed():
    table = two_seeds()
    control = table[table["measure"] == "auroc"].assign(measure="control_auroc", value=0.5)
    found = emergence.best_layers(pd.concat([table, control], ignore_index=True))
    assert list(found["auroc"]) == [0.7]
    assert list(found["onset"]) == [3.0]
