"""From pictures to a page: toy parts in under a minute, the real embedded parts as the slow test."""

import json

import h5py
import pandas as pd
import pytest

from analyses import demo, emergence, layer_probes
from analyses.frame.identity import distinguished
from taxogen.runs.run import Run
from tests.world import write_world

TOY = ("evaluate.pictures_per_leaf=0", "data.pictures_per_leaf=0", "capture.at=0,last")
SMALL = (
    *("data.leaves=60", "data.pictures_per_leaf=5", "train.steps=3", "train.batch=8"),
    *("capture.at=last", "capture.sites=hook_embed,blocks.9.hook_resid_post,blocks.24.hook_resid_post"),
)


def run_demo(folder, settings):
    options = [part for setting in settings for part in ("--set", setting)]
    demo.main(["--runs", str(folder / "runs"), "--out", str(folder / "demo"), *options])
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory, toy_lm):
    folder = tmp_path_factory.mktemp("toy_demo")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TAXOPROBE_CACHE", str(folder / "cache"))
        yield run_demo(folder, (*write_world(folder, toy_lm), *TOY))


def check_summary(folder) -> dict:
    """The summary has the promised shape, every number inside its interval; returns it."""
    found = json.loads((folder / "demo" / "summary.json").read_text())
    assert set(found["conditions"]) == {"pretrained", "random_init", "across", "within"}
    assert set(found["contrasts"]) == {"pretrained_minus_random_init", "within_minus_across"}
    for number in (*(one["auroc"] for one in found["conditions"].values()), *found["contrasts"].values()):
        assert number["lower"] <= number["value"] <= number["upper"]
        assert number["n"] > 0
    auroc = {name: one["auroc"]["value"] for name, one in found["conditions"].items()}
    difference = found["contrasts"]["within_minus_across"]["value"]
    assert difference == pytest.approx(auroc["within"] - auroc["across"], abs=1e-12)
    assert found["seconds"]["total"] > 0
    return found


def test_the_summary_has_the_promised_shape(made):
    check_summary(made)


def test_the_page_is_self_contained_and_says_n_interval_and_null(made):
    page = (made / "demo" / "report.html").read_text()
    shown = [path.stem for path in (made / "demo").glob("*.png")]
    probed = list((made / "runs").glob("*/analyses/layer_probes/*.png"))
    assert {"behaviour", "baselines", "emergence", "training", "evidence-pretrained"} <= set(shown)
    assert page.count("data:image/png;base64,") == len(shown) + len(probed) > 4
    assert 'src="http' not in page
    for said in ("n = 11", "95 %", "chance", "not recorded: see where they come from"):
        assert said in page
    assert "Credits of the pictures" not in page  # these are not the bundled ones


def test_a_second_start_keeps_everything(made, capsys):
    before = {
        path: path.stat().st_mtime_ns for path in (made / "runs").rglob("*") if path.suffix in (".h5", ".csv")
    }
    capsys.readouterr()
    options = json.loads((made / "runs" / "demo-pretrained" / "config.json").read_text())
    flat = [f"{group}.{key}={value}" for group, inner in options.items() if isinstance(inner, dict)
            for key, value in inner.items() if isinstance(value, str | int | float)]  # fmt: skip
    shared = [one for one in flat if not one.startswith(("model.init", "data.shuffle"))]
    shared += [f"capture.{key}={','.join(options['capture'][key])}" for key in ("at", "sites", "spans")]
    run_demo(made, shared)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert "report:" in capsys.readouterr().out


def test_figures_can_be_redrawn_from_the_table_alone(made):
    table = pd.read_csv(made / "demo" / "emergence.csv")
    assert emergence.draw(table)["emergence"].axes
    assert set(table["condition"]) == {"pretrained", "random_init", "across", "within"}


def test_a_run_that_was_not_probed_names_the_command(made, tmp_path):
    run = Run.open(made / "runs" / "demo-within")
    bare = Run(tmp_path, run.config)
    with pytest.raises(FileNotFoundError, match=r"python -m analyses\.layer_probes --run"):
        emergence.compute([bare], emergence.Options())


def test_the_presets_make_every_condition_once_for_each_seed(tmp_path):
    demo_runs = demo.make_runs("demo", tmp_path)
    assert {name: run.config.seed for name, run in demo_runs.items()} == dict.fromkeys(
        ("demo-pretrained", "demo-random_init", "demo-within", "demo-across"), 0
    )
    full = demo.make_runs("full", tmp_path)
    assert len(full) == 12
    assert [run.name for run in distinguished(list(full.values()))] == list(full)
    for name, run in full.items():
        assert name.endswith(f"-{run.config.seed}")
    settings = {(run.config.model.init, run.config.data.shuffle, run.config.seed) for run in full.values()}
    assert len(settings) == 12
    assert {seed for *_, seed in settings} == {0, 1, 2}


@pytest.mark.slow
def test_the_real_embedded_parts_run_from_pictures_to_page(tmp_path_factory):
    made = run_demo(tmp_path_factory.mktemp("small_demo"), SMALL)
    check_summary(made)
    scores = pd.read_csv(made / "demo" / "behaviour.csv")
    means = scores[
        (scores["target"] == "mean") & (scores["measure"] == "auroc") & scores["contrast"].isna()
    ].set_index(["condition", "modality"])
    # What the LM knows of the words does not depend on training: pretrained far above chance, random at chance.
    assert means.loc[("pretrained", "text"), "lower"] > 0.9
    assert means.loc[("random_init", "text"), "lower"] < 0.6
    run = Run.open(made / "runs" / "demo-pretrained")
    with h5py.File(run.store(3).shards[0]) as shard:
        assert "blocks.24.hook_resid_post" in str(list(shard["activations"]))
    layer_probes.main(["--run", str(run.path), "--span", "cue"])
