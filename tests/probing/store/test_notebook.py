"""What estimates and stores show in a notebook: what is true of them, escaped, without scripts or colours."""

import pytest
from store_job import write

from probing.stats import Estimate
from probing.store import ActivationStore, notebook
from tests.analyses.pages import Elements


def test_an_estimate_shows_value_limits_and_n():
    assert (
        Estimate(0.904, 0.8712, 0.933, 351)._repr_html_() == "<strong>0.904</strong> [0.871, 0.933] (n = 351)"
    )
    nan = float("nan")
    assert Estimate(nan, nan, nan, 0)._repr_html_() == "<strong>undefined</strong> (n = 0)"


def test_a_table_of_facts_names_its_rows_escapes_and_leaves_out_what_is_empty():
    page = notebook.facts("a <b>", {"sites": "x & y", "n": 0, "none": None, "empty": "", "long": "z" * 300})
    elements = Elements(page)
    assert not elements.faults
    assert [one.texts for one in elements.of("th")] == [["sites"], ["n"], ["long"]]
    assert [one.attributes["scope"] for one in elements.of("th")] == ["row"] * 3
    assert [one.texts[0][:4] for one in elements.of("td")] == ["x & ", "0", "zzzz"]
    assert len(elements.of("td")[2].texts[0]) == 100
    assert elements.of("strong")[0].texts == ["a <b>"]


def test_a_store_shows_rows_sites_spans_and_where_its_activations_come_from(tmp_path):
    write(tmp_path, attributes={"manifest_hash": "abc", "weight_hash": "0f" * 32, "note": "<script>"})
    store = ActivationStore.open(tmp_path)
    page = store._repr_html_()
    elements = Elements(page)
    assert not elements.faults
    cells = [one.texts[0] for one in elements.of("td")]
    shown = dict(zip([one.texts[0] for one in elements.of("th")], cells, strict=True))
    assert shown["items"] == "20"
    assert shown["sites"] == "2: blocks.0.hook_resid_post, blocks.1.attn.hook_z"
    assert shown["spans"] == "image (all), last (last)"
    assert shown["path"] == str(tmp_path)[:99] + ("…" if len(str(tmp_path)) > 100 else str(tmp_path)[99:])
    assert shown["weight_hash"] == "0f" * 6 + "…"
    assert shown["note"] == "<script>"
    assert "<script" not in page
    assert "color:" not in page.replace("color:inherit", "")
    assert len(page) < 3_000


def test_sites_of_one_point_in_many_layers_stand_as_one(tmp_path):
    write(tmp_path)
    store = ActivationStore.open(tmp_path)
    layers = [f"blocks.{layer}.hook_resid_post" for layer in range(30)]
    store.sites = ("hook_embed", *layers, "blocks.3.hook_mlp_out", "blocks.7.hook_mlp_out")
    assert "33: hook_embed, blocks.0–29.hook_resid_post, blocks.3,7.hook_mlp_out<" in store._repr_html_()


def test_an_unfinished_store_says_so(tmp_path):
    write(tmp_path)
    (tmp_path / "index.json").unlink()
    page = ActivationStore.open(tmp_path, unfinished=True)._repr_html_()
    assert "the capture did not end; 3 shards are finished" in page


@pytest.mark.parametrize("rows", [0, 2])
def test_a_grid_names_its_columns(rows):
    elements = Elements(notebook.grid("c", ["leaf", "n"], [["crow", 1], ["owl", 2]][:rows]))
    assert [one.attributes["scope"] for one in elements.of("th")] == ["col", "col"] + ["row"] * rows
    assert len(elements.of("td")) == rows
