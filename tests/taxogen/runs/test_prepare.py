"""Prepare: worlds that cannot be asked about are refused before anything is written."""

import pytest

from taxogen.runs import prepare
from taxogen.runs.run import Run
from tests.world import toy_config, write_world


@pytest.mark.parametrize(("leaf", "renamed"), [("crow", "owl2"), ("crow", "owl (animal)"), ("apple", "owl1")])
def test_leaves_that_share_a_word_are_refused_and_their_pictures_may_be_left_out(
    tmp_path, toy_lm, leaf, renamed
):
    settings = write_world(tmp_path, toy_lm)
    (tmp_path / "pictures" / leaf).rename(tmp_path / "pictures" / renamed)
    table = tmp_path / "taxonomy.csv"
    table.write_text(table.read_text().replace(f"{leaf},", f"{renamed},"))
    run = Run.create(tmp_path / "run", toy_config(settings))
    names = ", ".join(sorted(["owl", renamed]))
    with pytest.raises(ValueError, match=r"^2 leaves share a word with another one: 'owl' for ") as refusal:
        prepare.world(run)
    assert f"'owl' for {names}; leave out the pictures of all but one" in str(refusal.value)
    (tmp_path / "pictures" / renamed).rename(tmp_path / renamed)
    assert renamed not in prepare.world(run).taxonomy.leaves


@pytest.mark.parametrize(
    "templates, ablation, idle",
    [
        ("kind,type,called", "full", "type"),
        ("type,the_kind,is_a", "full", "the_kind, is_a"),
        ("kind,type,called", "none", ""),
        ("kind,called,known_as", "full", ""),
    ],
)
def test_templates_that_nothing_asks_are_said(tmp_path, toy_lm, caplog, templates, ablation, idle):
    settings = (*write_world(tmp_path, toy_lm), f"data.templates={templates}", f"data.ablation={ablation}")
    caplog.set_level("WARNING")
    prepare.world(Run.create(tmp_path / "run", toy_config(settings)))
    said = [record.message for record in caplog.records if "data.templates" in record.message]
    assert [f"data.templates names {idle}, which" in text for text in said] == [True] * bool(idle)
