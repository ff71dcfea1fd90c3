"""What cannot be patched is refused in one line: before a model is loaded, or before anything is run."""

import json
import shutil
from dataclasses import replace

import pytest

from analyses import patching
from analyses.inputs import subject
from analyses.patching.options import Options
from probing.patching import Cell
from probing.sites import Site
from taxogen.runs.run import Run
from tests.analyses.patching.toy import patch


def refusal(capsys, run, *more):
    """The one line with which a command line ends."""
    with pytest.raises(SystemExit) as stop:
        patch(run, *more)
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("python -m analyses.patching: ")
    return line


def copied(run, path, **settings):
    """The same run with other settings in its config, as if an older version had trained it so."""
    shutil.copytree(run.path, path, ignore=shutil.ignore_patterns("analyses", "world.json", "made.json"))
    config = json.loads((path / "config.json").read_text())
    for name, value in settings.items():
        section, _, key = name.partition("_")
        config[section][key] = value
    (path / "config.json").write_text(json.dumps(config))
    return Run.open(path)


def test_what_cannot_be_patched_is_refused_before_a_model_is_loaded(runs, tmp_path, capsys, monkeypatch):
    def loaded(_):
        raise AssertionError("a model was loaded")

    monkeypatch.setattr(subject, "open_bench", loaded)
    run, random = runs["pretrained"], str(runs["random"].path)
    assert "python -m taxogen train" in refusal(capsys, Run(tmp_path / "nothing", run.config))
    closed = copied(run, tmp_path / "closed", data_task="yes_no")
    assert "data.task=completion" in refusal(capsys, closed)
    assert "data.task=completion" in refusal(capsys, run, "--placebo-run", str(closed.path))
    untrained = copied(run, tmp_path / "untrained")
    untrained.file("run.json").unlink()
    assert "is not complete" in refusal(capsys, untrained)
    assert "is not complete" in refusal(capsys, run, "--placebo-run", str(untrained.path))
    assert "not a run directory" in refusal(capsys, run, "--placebo-run", str(tmp_path / "none"))
    for sites in (
        "blocks.*.hook_resid_pots",
        "hook_embed",
        "ln_final.hook_normalized",
        "blocks.*.attn.hook_pattern",
    ):
        assert f"no site that can be patched matches {sites}; " in refusal(capsys, run, "--sites", sites)
    assert "give --sites blocks.*.attn.hook_z" in refusal(capsys, run, "--heads")
    assert "ask for fewer with --pairs" in refusal(capsys, run, "--pairs", "40")
    assert "1 or more" in refusal(capsys, run, "--pairs", "0")
    assert "1 or more" in refusal(capsys, run, "--window", "0")
    assert "have no common natural states" in refusal(capsys, run, "--natural", "--slot", "each")
    twin = copied(run, tmp_path / "twin", train_steps=5)
    assert "model.init=random" in refusal(capsys, run, "--placebo-run", str(twin.path))
    assert "given twice" in refusal(capsys, runs["random"], "--placebo-run", random)
    for name in ("../up", "a/b", "/etc/x", ".hidden", "-x=1"):
        assert "--name takes a name" in refusal(capsys, run, f"--name={name}")
    other = copied(runs["random"], tmp_path / "other", evaluate_templates=["type"])
    assert "a placebo run is asked the same" in refusal(capsys, run, "--placebo-run", str(other.path))
    monkeypatch.setenv("TAXOPROBE_TRACEBACK", "1")
    with pytest.raises(AssertionError, match="a model was loaded"):
        patch(run, "--placebo-run", random)


def test_what_the_model_does_not_have_is_refused_before_anything_is_run(runs, toy, capsys):
    assert "no site matches" in refusal(capsys, runs["pretrained"], "--sites", "blocks.77.hook_resid_post")
    with pytest.raises(
        ValueError, match=r"'slot' has 1 tokens where the state comes from and 2 where it goes"
    ):
        patching.prepare(toy, Options(slot="each", pairs=6))
    with pytest.raises(ValueError, match="a window of 3 layers"):
        patching.prepare(toy, Options(window=3, pairs=6))
    pairs = patching.prepare(toy, Options(pairs=6)).pairs
    with pytest.raises(ValueError, match="no test picture of"):
        patching.prepare(toy, Options(), [replace(pairs[0], stranger="zebra")])
    with pytest.raises(ValueError, match=r"cannot read \['mammal'\]"):
        patching.prepare(toy, Options(), [replace(pairs[0], up="mammal")])


def test_a_placebo_run_of_another_depth_is_refused(runs, toy):
    options = Options(pairs=6, placebo_run=runs["random"].path)
    deeper = [Cell((Site("hook_resid_post", 9),), "slot")]
    with pytest.raises(ValueError, match=r"has no blocks.9.hook_resid_post, .* as many layers"):
        patching._random_init(replace(patching.prepare(toy, options), cells=deeper), options)
