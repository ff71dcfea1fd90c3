"""The reference of settings: each has a meaning in the config that is printed, and in a page that is current."""

import dataclasses
import tomllib
from pathlib import Path

import pytest

from taxogen.__main__ import main
from taxogen.runs import config
from taxogen.runs.config import groups, reference
from taxogen.runs.setting import help_of

PAGE = Path(__file__).parents[3] / "docs" / "settings.md"


def test_the_page_is_current_and_has_every_setting_once():
    text = PAGE.read_text(encoding="utf-8")
    assert text == reference.page(), "python -m taxogen.runs.config.reference > docs/settings.md"
    rows = [line.split("|")[1].strip(" `") for line in text.splitlines() if line.startswith("| `")]
    assert rows == list(config.catalogue())
    assert all(
        line.count("|") - line.count("\\|") == 5 for line in text.splitlines() if line.startswith("| `")
    )


def test_each_setting_has_a_meaning_and_no_line_is_of_none():
    for group in (config.Config, *groups.GROUPS.values()):
        fields = {field.name for field in dataclasses.fields(group)} - set(groups.GROUPS)
        assert set(help_of(group)) == fields
    assert all(len(one.about.split()) > 2 for one in config.catalogue().values())


def test_the_printed_config_explains_each_value_above_it(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "110")
    assert main(["config", "--set", "train.steps=31", "--set", "capture.at=0,last"]) == 0
    text = capsys.readouterr().out
    assert all(len(line) <= 110 for line in text.splitlines() if line.startswith("#"))
    flat = dict(config.flatten(tomllib.loads(text)))
    assert list(flat) == list(config.catalogue())
    assert flat["train.steps"] == 31
    lines = text.splitlines()
    for at, line in enumerate(lines):
        if " = " in line and not line.startswith("#"):
            assert lines[at - 1].startswith("#"), line
    assert "# names among which the shown leaf is to be named; chance is one in this number. Takes a" in text
    assert "Takes none, within, category, graded, across," in " ".join(text.replace("#", "").split())


@pytest.mark.parametrize(
    "key, accepts",
    [
        ("model.hidden", "0 or a whole number of at least 1"),
        ("train.warmup", "a number of at least 0 and below 1"),
        ("data.split", "seeded, study, leaf, source"),
        ("capture.dtype", "float32, float16, bfloat16"),
        ("train.match_steps", "true or false"),
        ("capture.at", "a list of texts"),
    ],
)
def test_what_a_setting_takes_in_words(key, accepts):
    assert config.catalogue()[key].accepts == accepts
