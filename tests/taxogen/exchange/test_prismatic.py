"""Import of prismatic-vlms: a checkpoint in its layout becomes the projector of a run, or is refused in one line."""

import json
import logging

import pytest
import torch
from torch import nn

from probing.store import MismatchError
from taxogen.__main__ import main
from taxogen.exchange.llava import export_llava
from taxogen.exchange.prismatic import CHECKPOINT, import_prismatic
from taxogen.runs.bench import open_bench
from taxogen.stages import pipeline
from taxogen.stages.train import load_projector

FEATURES, WIDTH = 16, 32
AS_THEY_ARE = ("model.standardise=false",)
LAYERS = {
    "linear": lambda: nn.Linear(FEATURES, WIDTH),
    "gelu-mlp": lambda: nn.Sequential(nn.Linear(FEATURES, WIDTH), nn.GELU(), nn.Linear(WIDTH, WIDTH)),
    "fused-gelu-mlp": lambda: nn.Sequential(
        nn.Linear(FEATURES, 4 * FEATURES),
        nn.GELU(),
        nn.Linear(4 * FEATURES, WIDTH),
        nn.GELU(),
        nn.Linear(WIDTH, WIDTH),
    ),
}
"""The layers of prismatic-vlms' projectors, each the attribute `projector` of a module."""


class Theirs(nn.Module):
    """A projector as prismatic-vlms has it."""

    def __init__(self, kind):
        super().__init__()
        self.projector = LAYERS[kind]()

    def forward(self, patches):
        return self.projector(patches)


def write_checkpoint(folder, kind, arch=None, model=None):
    """A checkpoint of the alignment stage, in bfloat16; returns the module whose weights it holds."""
    torch.manual_seed(1)
    theirs = Theirs(kind).bfloat16()
    (folder / "checkpoints").mkdir(parents=True)
    config = {"model": {"model_id": "toy", "arch_specifier": arch or kind}, "seed": 7}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    state = {"projector": theirs.state_dict()} if model is None else model
    torch.save({"model": state, "optimizer": {"state": {}}}, folder / CHECKPOINT)
    return theirs.float()


@pytest.mark.parametrize(
    ("kind", "arch"),
    [("linear", "linear"), ("gelu-mlp", "no-align+gelu-mlp"), ("fused-gelu-mlp", "no-align+fused-gelu-mlp")],
)
def test_the_run_maps_features_as_the_checkpoint_does(toy_run, toy_lm, tmp_path, kind, arch):
    theirs = write_checkpoint(tmp_path / "theirs", kind, arch)
    run = toy_run(toy_lm, "dinov2", f"model.projector={kind}", *AS_THEY_ARE, finished=False)
    snapshot = import_prismatic(tmp_path / "theirs", run)
    assert run.record["steps"] == 0
    projector = open_bench(run).vlm.projector
    load_projector(projector, run.require_snapshot(0))
    assert snapshot == run.snapshot(0)
    features = torch.randn(3, 16, FEATURES)
    with torch.no_grad():
        torch.testing.assert_close(projector(features), theirs(features), rtol=1e-6, atol=1e-6)


def test_an_imported_run_is_scored_captured_and_exported(toy_run, toy_lm, tmp_path):
    write_checkpoint(tmp_path / "theirs", "gelu-mlp")
    run = toy_run(toy_lm, "dinov2", *AS_THEY_ARE, finished=False)
    import_prismatic(tmp_path / "theirs", run)
    scores = pipeline.evaluate_run(run)
    assert scores.image_scores.shape[1] == len(run.taxonomy.hypernyms)
    pipeline.capture_step(open_bench(run), 0)
    assert run.steps == (0,)
    export_llava(run, tmp_path / "out")
    assert "of the prismatic-vlms checkpoint `" in (tmp_path / "out" / "README.md").read_text(
        encoding="utf-8"
    )


def test_the_command_ends_with_what_it_wrote(toy_run, toy_lm, tmp_path, capsys):
    write_checkpoint(tmp_path / "theirs", "gelu-mlp")
    run = toy_run(toy_lm, "dinov2", *AS_THEY_ARE, finished=False)
    assert main(["import", "--prismatic", str(tmp_path / "theirs"), "--run", str(run.path)]) == 0
    said = f"{run.snapshot(0)} is written; next: taxoprobe evaluate --run {run.path}\n"
    assert capsys.readouterr().out == said
    assert run.snapshot(0).is_file()


def test_a_language_model_in_the_checkpoint_is_warned_of(toy_run, toy_lm, tmp_path, caplog):
    state = {"projector": Theirs("linear").state_dict(), "llm_backbone": {"llm.weight": torch.zeros(1)}}
    write_checkpoint(tmp_path / "theirs", "linear", model=state)
    run = toy_run(toy_lm, "dinov2", "model.projector=linear", *AS_THEY_ARE, finished=False)
    with caplog.at_level(logging.WARNING):
        import_prismatic(tmp_path / "theirs", run)
    assert "the language model was trained too, and is not read" in caplog.text


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        (("model.projector=linear", *AS_THEY_ARE), "`--set model.projector=gelu-mlp`"),
        ((), "`--set model.standardise=false`"),
        (("model.normalise=true",), "`--set model.standardise=false --set model.normalise=false`"),
    ],
)
def test_settings_that_do_not_fit_are_named(toy_run, toy_lm, tmp_path, settings, named):
    write_checkpoint(tmp_path / "theirs", "gelu-mlp")
    run = toy_run(toy_lm, "dinov2", *settings, finished=False)
    with pytest.raises(
        ValueError, match="holds a gelu-mlp projector of features and tokens as they are"
    ) as refusal:
        import_prismatic(tmp_path / "theirs", run)
    assert named in str(refusal.value)
    assert not run.snapshots


@pytest.mark.parametrize("hidden", [9, 0])
def test_other_shapes_and_names_are_refused(toy_run, toy_lm, tmp_path, hidden):
    write_checkpoint(tmp_path / "theirs", "gelu-mlp")
    if not hidden:
        state = {"projector": Theirs("fused-gelu-mlp").state_dict()}
        torch.save({"model": state}, tmp_path / "theirs" / CHECKPOINT)
    run = toy_run(toy_lm, "dinov2", f"model.hidden={hidden}", *AS_THEY_ARE, finished=False)
    expected = r"net.0.bias of shape \(32,\), that of .* \(9,\)" if hidden else r"net.0.bias of shape \(64,\)"
    with pytest.raises(MismatchError, match=expected):
        import_prismatic(tmp_path / "theirs", run)
    assert not run.complete


def test_a_run_with_a_projector_is_left_as_it_is(toy_run, toy_lm, tmp_path):
    write_checkpoint(tmp_path / "theirs", "gelu-mlp")
    run = toy_run(toy_lm, "dinov2", *AS_THEY_ARE)
    before = run.snapshot(0).read_bytes()
    with pytest.raises(MismatchError, match=r"has a projector already \(of steps \[0\]\)"):
        import_prismatic(tmp_path / "theirs", run)
    assert run.snapshot(0).read_bytes() == before


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("config.json", None, "has no config.json"),
        ("config.json", b"{", "no config of prismatic-vlms"),
        ("config.json", b'{"model": {}}', "no config of prismatic-vlms"),
        (
            "config.json",
            b'{"model": {"arch_specifier": "q-former"}}',
            "arch_specifier='q-former' is not known",
        ),
        (CHECKPOINT, None, "has no checkpoints/latest-checkpoint.pt"),
        (CHECKPOINT, b"bytes", "no checkpoint of prismatic-vlms"),
    ],
)
def test_a_folder_of_another_kind_is_refused(toy_run, toy_lm, tmp_path, name, content, message):
    write_checkpoint(tmp_path / "theirs", "gelu-mlp")
    (tmp_path / "theirs" / name).unlink()
    if content is not None:
        (tmp_path / "theirs" / name).write_bytes(content)
    run = toy_run(toy_lm, "dinov2", *AS_THEY_ARE, finished=False)
    with pytest.raises((FileNotFoundError, ValueError), match=message):
        import_prismatic(tmp_path / "theirs", run)


@pytest.mark.parametrize("model", [{}, {"projector": {}}, {"projector": {"projector.weight": 1}}])
def test_a_checkpoint_without_a_projector_is_refused(toy_run, toy_lm, tmp_path, model):
    write_checkpoint(tmp_path / "theirs", "gelu-mlp", model=model)
    run = toy_run(toy_lm, "dinov2", *AS_THEY_ARE, finished=False)
    with pytest.raises(ValueError, match="no checkpoint of prismatic-vlms"):
        import_prismatic(tmp_path / "theirs", run)
