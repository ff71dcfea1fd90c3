"""What runs and taxonomies show in a notebook: how far a run is and the next command, the largest hypernyms."""

from dataclasses import replace
from pathlib import Path

from taxogen.runs.config import Config
from taxogen.runs.run import Run
from taxogen.world.taxonomy import Taxonomy
from tests.analyses.frame.planted_runs import planted_run
from tests.analyses.pages import Elements


def shown(run):
    elements = Elements(run._repr_html_())
    assert not elements.faults
    cells = [one.texts[0] for one in elements.of("td")]
    return dict(zip([one.texts[0] for one in elements.of("th")], cells, strict=True))


def test_a_run_shows_how_far_it_is_and_the_next_command(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = planted_run(Path("with a space"), seed=7)
    about = shown(done)
    assert about["state"] == "trained and evaluated"
    assert about["next"] == "taxoprobe analyse behaviour --run 'with a space'"
    assert about["settings"] == "seed=7"
    assert about["model"] == "efficientnet-lite2 → flat-gelu-mlp → smollm2-135m (pretrained)"
    assert about["captured"] == about["projector saved"] == "step 0, 12"
    assert "answered" not in about
    done.folder("analyses", "behaviour").joinpath("behaviour.parquet").write_bytes(b"")
    about = shown(done)
    assert about["answered"] == "behaviour"
    assert about["next"] == "taxoprobe report --run 'with a space' --out report"
    done.file("scores.h5").unlink()
    assert shown(done)["next"] == "taxoprobe evaluate --run 'with a space'"
    done.file("run.json").unlink()
    about = shown(done)
    assert about["state"] == "prepared, not trained to its end"
    assert about["next"] == "taxoprobe train --run 'with a space'"


def test_a_run_that_was_never_prepared_shows_its_settings(tmp_path):
    wanted = Config(seed=3)
    wanted = replace(wanted, train=replace(wanted.train, snapshots=("0", "last")))
    about = shown(Run(tmp_path / "new", wanted))
    assert about["state"] == "not prepared"
    assert about["settings"] == "seed=3, train.snapshots=0,last"


def test_a_taxonomy_shows_the_hypernyms_with_most_leaves_and_folds_the_rest():
    edges = [(f"leaf {k} {n}", f"kind {n}") for n in range(10) for k in range(n + 1)]
    page = Taxonomy((*edges, ("kind 9", "all")))._repr_html_()
    elements = Elements(page)
    assert not elements.faults
    assert elements.of("summary")[0].texts == ["3 more"]
    rows = [one.texts[0] for one in elements.of("th") if one.attributes["scope"] == "row"]
    assert rows == ["all", *(f"kind {n}" for n in reversed(range(10)))]
    first = [one.texts for one in elements.of("td")[3:6]]
    assert first[:2] == [["all"], ["10"]]
    assert first[2][0].startswith("leaf 0 9, leaf 1 9")
    assert "<details>" not in Taxonomy((("crow", "bird"),))._repr_html_()
