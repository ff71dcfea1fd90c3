"""Stored effects: those that are missing are refused with the command that stores them, if there is one."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from analyses import pooling
from analyses.frame import registry
from analyses.inputs.effects import STORING
from analyses.pooling.groups import groups_of
from taxogen.runs.config import Config
from taxogen.runs.run import Run


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A run that is a config, which no analysis was asked of."""
    monkeypatch.setattr(Run, "makers", lambda run, step=None: {"run": run.config.hash})
    return Run(tmp_path / "one", replace(Config(), seed=0))


def test_the_analyses_that_store_effects_are_those_that_are_said_to():
    folder = Path(pooling.__file__).parents[1]
    texts = {name: (folder / name).glob("*.py") for name in registry.questions()}
    storing = {
        name for name, files in texts.items() if any("with_effects(" in one.read_text() for one in files)
    }
    assert storing == set(STORING)
    assert {name.partition("-")[0] for name in pooling.SHOWN} <= set(STORING)


@pytest.mark.parametrize("name", sorted(set(registry.questions()) - set(STORING)))
def test_an_analysis_that_stores_no_effects_is_refused_and_no_command_is_named(run, name):
    with pytest.raises(
        ValueError, match=f"effects of {name} were asked for, which stores none; give circuits"
    ) as refusal:
        groups_of([run], name, "")
    assert "makes it again" not in str(refusal.value)


@pytest.mark.parametrize(
    ("of", "table", "flags"),
    [
        ("erasure", "", ""),
        ("erasure", "steering", " --steer"),
        ("circuits", "circuits-resample", " --ablation resample"),
        ("interchange", "word-to-word", " --direction word-to-word"),
        ("patching", "text-to-image-denoising", ""),
        ("patching", "image-to-text-denoising", " --direction image-to-text"),
        ("patching", "picture-to-picture-noising", " --direction picture-to-picture --mode noising"),
        ("knockout", "", ""),
        ("lens", "", ""),
    ],
)
def test_the_command_that_stores_missing_effects_asks_for_their_table(run, of, table, flags):
    command = re.escape(f"`python -m analyses.{of} --run {run.path}{flags}` makes it again")
    with pytest.raises(FileNotFoundError, match=command):
        groups_of([run], of, table)


@pytest.mark.parametrize("of", STORING)
def test_a_table_that_an_analysis_has_not_is_refused_with_those_that_it_has(run, of):
    analysis = registry.load(of)
    with pytest.raises(KeyError, match=f"table 'nonsense' of {of} was asked for; known: ") as refusal:
        groups_of([run], of, "nonsense")
    known = str(refusal.value.args[0]).partition("known: ")[2].split(", ")
    assert known[0] == analysis.table_name_of(analysis.options())
    assert set(analysis.also) <= set(known)
