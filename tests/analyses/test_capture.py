"""Captures beside those of training: other sites, tokens one by one, damaged shards, and what is refused."""

import re
import shutil
from dataclasses import replace

import numpy as np
import pytest

from analyses import capture
from probing.store import ActivationStore, MismatchError
from taxogen.runs.run import Run
from taxogen.stages import pipeline
from tests.world import toy_config, write_world

HEADS = ("--name", "heads", "--sites", "blocks.*.attn.hook_z,blocks.0.attn.hook_pattern")


@pytest.fixture(scope="module")
def done(tmp_path_factory, toy_lm):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TAXOPROBE_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        settings = write_world(tmp_path_factory.mktemp("world"), toy_lm)
        run = Run.create(tmp_path_factory.mktemp("runs") / "done", toy_config(settings, "capture.at=last"))
        pipeline.train_run(run)
        yield run


@pytest.fixture
def copied(done, tmp_path):
    """A copy of the run, to be changed."""
    shutil.copytree(done.path, tmp_path / "done")
    return Run.open(tmp_path / "done")


def content(run):
    return {path.name: path.read_bytes() for path in run.path.rglob("captures*/*/*") if path.is_file()}


def test_other_sites_and_single_tokens_go_into_captures_of_their_own(copied):
    before = content(copied)
    capture.main(["--run", str(copied.path), *HEADS, "--spans", "slot:all,last", "--dtype", "float32"])
    assert {name: content(copied)[name] for name in before} == before
    heads = copied.with_captures("heads")
    assert heads.steps == copied.steps == (12,)
    image, text = heads.store(12), heads.store(None, "text")
    assert "blocks.0.attn.hook_pattern" in image.sites
    assert image.attributes["attention"] == "eager"
    assert image.pooling == {"image": "all", "last": "mean"}
    assert text.pooling == {"noun": "all", "last": "mean"}
    assert image.read("blocks.1.attn.hook_z", "image").shape[0] == 2 * len(image)
    assert image.item_ids.tolist() == copied.store(12).item_ids.tolist()


def test_a_store_names_its_projector_and_the_command_that_makes_it(done):
    attributes = done.store(12).attributes
    assert len(attributes["projector"]) == 64
    assert attributes["command"] == "python -m analyses.capture --step 12 --run FOLDER OF done"
    assert done.store(None, "text").attributes["projector"] == ""


def test_a_damaged_shard_is_made_again_and_nothing_else(copied, capsys):
    before = content(copied)
    folder = copied.store_path(12, "image")
    shard, text = folder / "shard-00000.h5", copied.store_path(None, "text") / "shard-00000.h5"
    shard.write_bytes(shard.read_bytes()[:4000])
    time = text.stat().st_mtime_ns
    capture.main(["--run", str(copied.path)])
    assert f"{shard} was made again: shard shard-00000.h5" in capsys.readouterr().out
    assert content(copied) == before
    assert text.stat().st_mtime_ns == time
    assert np.isfinite(ActivationStore.open(folder).read("hook_embed", "last")).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--step", "7"), r"no projector of step 7; there are \[0, 12\]"),
        (("--sites", "hook_embed"), "give captures with other sites a name: --name NAME"),
        (("--name", "../../up", "--spans", "last"), r"--name takes a name of .* found '../../up'"),
        (("--name", "/etc", "--spans", "last"), "--name takes a name"),
        (("--name", "more", "--sites", "blocks.9.*"), r"no site matches 'blocks.9.\*'; available"),
        (
            ("--name", "more", "--spans", "slot:max"),
            r"capture\.spans 'slot:max' was asked for; known: slot, slot:mean",
        ),
    ],
)
def test_what_cannot_be_captured_is_one_clear_error(copied, capsys, options, message):
    before = content(copied)
    with pytest.raises(SystemExit) as refused:
        capture.main(["--run", str(copied.path), *options])
    (line,) = capsys.readouterr().err.splitlines()
    assert refused.value.code == 2
    assert re.search(message, line)
    assert content(copied) == before


def test_a_name_that_holds_another_capture_is_refused_with_the_difference(copied, capsys):
    capture.main(["--run", str(copied.path), *HEADS, "--spans", "last"])
    before = content(copied)
    with pytest.raises(SystemExit):
        capture.main(
            ["--run", str(copied.path), "--name", "heads", "--sites", "hook_embed", "--spans", "cue"]
        )
    said = capsys.readouterr().err
    assert "sites: there ('blocks.0.attn.hook_pattern'" in said
    assert "spans: there {'image': 'mean', " not in said
    assert "spans: there {'last': 'mean'}, asked {'cue': 'mean'}" in said
    assert content(copied) == before


def test_training_again_with_other_capture_settings_is_refused(copied):
    other = replace(copied.config, capture=replace(copied.config.capture, sites=("hook_embed",)))
    with pytest.raises(
        MismatchError, match=r"captures of another kind \(capture.sites: asked \('hook_embed',\)"
    ):
        Run.create(copied.path, other)
    later = replace(copied.config, capture=replace(copied.config.capture, at=("0", "last")))
    assert Run.create(copied.path, later).config.capture.at == ("0", "last")
