"""Questions about activations, asked of stores and a taxonomy without a run: numbers, equality with a run, refusals."""

import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tiny_dictionaries import drawn, write_sae_lens

from analyses import geometry, layer_probes
from analyses.frame import registry
from analyses.frame.console import main as console
from analyses.frame.stores import Stores
from analyses.text_alignment.digest import probe_onsets
from probing.store import MismatchError
from taxogen.runs.run import Run
from taxogen.stages.pipeline import train_run
from taxogen.world.taxonomy import Taxonomy
from tests.analyses.leaf_stores import LEAVES, TAXONOMY
from tests.analyses.stores.made_up_stores import (
    BOTH,
    OF_STORES,
    again,
    refused,
    write_pictures,
    write_taxonomy,
    write_words,
)
from tests.world import toy_config, toy_folder

ROOT = Path(__file__).parents[3]
QUICK: dict[str, tuple[str, ...]] = {"layer_probes": ("--draws", "40", "--folds", "3", "--controls", "1")}
QUICK["sparse_features"] = (
    "--draws",
    "40",
    "--folds",
    "3",
    "--permutations",
    "19",
    "--dictionary",
    "dictionary",
)


def ask(name, *flags):
    registry.load(name).main([*flags, *QUICK.get(name, ("--draws", "40"))])


def test_the_questions_that_need_only_activations():
    assert set(OF_STORES) == {"layer_probes", "cohesion", "geometry", "sparse_features", "text_alignment"}


@pytest.mark.parametrize("name", OF_STORES)
@pytest.mark.parametrize(
    ("flags", "folder"), [(BOTH, "pictures+words"), (BOTH[:2], "pictures"), (BOTH[2:4], "words")]
)
def test_every_question_answers_from_both_stores_or_one(here, name, flags, folder, capsys):
    flags = (*flags, *(() if "--taxonomy" in flags else BOTH[4:]))
    if name == "text_alignment" and "--images" not in flags:
        assert "--images was not given" in refused(capsys, name, *flags)
        return
    ask(name, *flags)
    home = Path("analyses") / folder / name
    assert f"Table and figures: {home}" in capsys.readouterr().out
    table = pd.read_parquet(home / f"{name}.parquet")
    assert set(table["run"]) == {folder}
    assert set(table["step"]) == {-1}
    modalities = {"--images": {"image"}, "--text": {"text"}}
    expected = set().union(*(kinds for flag, kinds in modalities.items() if flag in flags))
    assert expected <= set(table["modality"]) | ({"image", "text"} if name == "text_alignment" else set())
    assert np.isfinite(table["value"]).any()
    assert list(home.glob("*.svg"))


def test_a_planted_colour_is_found_in_pictures_and_none_in_words(here):
    stores = Stores.open("pictures", "words", taxonomy="taxonomy.csv")
    table = layer_probes.of_stores(stores, layer_probes.Options(draws=40)).table
    means = table[(table["measure"] == "auroc") & (table["target"] == "mean") & (table["span"] == "slot")]
    of = {name: means.loc[means["modality"] == name] for name in ("image", "text")}
    assert of["image"]["value"].min() > 0.9
    assert (of["text"]["lower"] < 0.5).all()
    control = table[(table["measure"] == "control_auroc") & (table["target"] == "mean")]
    assert control.loc[control["modality"] == "image", "value"].max() < 0.7


@pytest.fixture(scope="module")
def trained(tmp_path_factory, asking_lm):
    folder = tmp_path_factory.mktemp("trained")
    with toy_folder(folder, asking_lm) as settings:
        run = Run.create(folder / "toy", toy_config(settings))
        train_run(run)
        yield Run.open(folder / "toy")


def of_a_run_alone(table):
    """Rows that are not made from stores: of the encoder, of distances between its features, of bare nouns."""
    alone = table["site"].isin(["encoder"]) | table["measure"].str.startswith("taxonomic_rsa_given_encoder")
    return alone | (table["reference"].str.startswith("bare nouns") if "reference" in table else False)


@pytest.mark.parametrize("name", OF_STORES)
@pytest.mark.parametrize("held_out", [(), ("bird",)])
def test_the_stores_of_a_run_give_the_numbers_of_the_run(trained, name, held_out, tmp_path):
    analysis = registry.load(name)
    assert not isinstance(analysis.of_stores, str)
    more, steps = {"held_out": held_out}, trained.steps
    if name == "sparse_features":
        width = trained.store(None, "text").read("blocks.1.hook_resid_post", "last").shape[1]
        write_sae_lens(tmp_path, drawn(width, 2 * width))
        more, steps = {"dictionary": tmp_path, "permutations": 19}, trained.steps[-1:]
    options = analysis.options(draws=40, **more)
    of_run = analysis.compute([trained], options).table
    images = [trained.store_path(step, "image") for step in steps]
    table = trained.path / "taxonomy.csv"
    stores = Stores.open(images, trained.store_path(None, "text"), taxonomy=table)
    of_stores = analysis.of_stores(stores, options).table
    assert set(of_run["step"]) - {-1} == set(steps)
    expected = of_run[~of_a_run_alone(of_run)].reset_index(drop=True)
    pd.testing.assert_frame_equal(
        of_stores.drop(columns="run"), expected.drop(columns="run"), check_exact=True, check_dtype=False
    )
    assert set(of_stores["run"]) == {f"step-{trained.steps[-1]:06d}+text"}


def test_what_only_some_stores_have_is_left_out_and_said(own, capsys):
    again("words", write_words, leaves=LEAVES[1:])
    again("pictures", write_pictures, sites="blocks.*.hook_resid_*")
    stores = Stores.open("pictures", "words", taxonomy="taxonomy.csv")
    assert stores.notes == (
        "1 leaves are not in every store, and left out: bird 0",
        "6 sites are not in every store, and left out: blocks.0.hook_resid_mid, blocks.0.hook_resid_pre, "
        "blocks.1.hook_resid_mid …",
    )
    ask("geometry", *BOTH)
    assert "geometry: 1 leaves are not in every store, and left out: bird 0\n" in capsys.readouterr().err
    table = geometry.ANALYSIS.table(stores)
    assert set(table["n"]) == {31}
    assert set(table["site"]) == {f"blocks.{layer}.hook_resid_post" for layer in range(3)}


def test_leaves_may_stand_in_another_column_and_pictures_count_once(own):
    write_pictures(Path("renamed"), column="species")
    renamed, plain = (
        Stores.open(folder, taxonomy="taxonomy.csv", leaf=leaf)
        for folder, leaf in (("renamed", "species"), ("pictures", "leaf"))
    )
    first, second = (geometry.of_stores(one, geometry.Options(draws=40)).table for one in (renamed, plain))
    pd.testing.assert_frame_equal(first.drop(columns="run"), second.drop(columns="run"))
    assert plain.images[-1].columns["picture"].nunique() == 3 * len(LEAVES)


def test_steps_are_those_of_the_stores(own):
    for step in (0, 5):
        write_pictures(Path(f"step{step}"), seed=step, attributes={"step": step})
    stores = Stores.open(["step5", "step0"], "words", taxonomy="taxonomy.csv")
    assert stores.steps == (0, 5)
    assert stores.name == "step5+words"
    table = layer_probes.of_stores(stores, layer_probes.Options(step=("last",), draws=40, controls=1)).table
    assert set(table["step"]) == {-1, 5}
    with pytest.raises(
        MismatchError, match=r"pictures and again are both of step -1; .* need an attribute `step`"
    ):
        Stores.open(["pictures", shutil.copytree("pictures", "again")], taxonomy="taxonomy.csv")


CHANGES = {
    "images": lambda: again("pictures", write_pictures, seed=3),
    "text": lambda: again("words", write_words, attributes={"prompt": "another"}),
    "taxonomy": lambda: write_taxonomy(
        Path("taxonomy.csv"), Taxonomy((*TAXONOMY.edges, ("bird", "animal"), ("fish 0", "animal")))
    ),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_changed_store_or_taxonomy_is_noticed(own, what, capsys):
    def stores():
        return Stores.open("pictures", "words", taxonomy="taxonomy.csv")

    geometry.ANALYSIS.ask_stores(stores(), geometry.Options())
    assert len(geometry.ANALYSIS.table(stores()))
    CHANGES[what]()
    with pytest.raises(MismatchError) as stale:
        geometry.ANALYSIS.table(stores())
    table = Path("analyses/pictures+words/geometry/geometry.parquet")
    command = f"python -m analyses.geometry {' '.join(BOTH)}"
    assert (
        str(stale.value) == f"{table} is stale: it was made from another {what}; `{command}` makes it again"
    )
    capsys.readouterr()
    ask("geometry", *command.split()[3:])
    assert f"geometry: {table} was made with the default options; it is replaced" in capsys.readouterr().err
    geometry.ANALYSIS.ask_stores(stores(), geometry.Options())
    assert len(geometry.ANALYSIS.table(stores()))


def test_rows_of_a_taxonomy_about_other_leaves_change_nothing(own):
    before = Stores.open("pictures", "words", taxonomy="taxonomy.csv")
    write_taxonomy(Path("taxonomy.csv"), Taxonomy((*TAXONOMY.edges, ("cod", "fish"), ("eel", "fish"))))
    after = Stores.open("pictures", "words", taxonomy="taxonomy.csv")
    assert after.makers == before.makers
    assert after.taxonomy.leaves == tuple(LEAVES)


def test_results_go_where_they_are_asked_to_and_are_replaced_with_a_line(own, capsys):
    ask("geometry", *BOTH, "--out", "elsewhere")
    assert Path("elsewhere/geometry.parquet").is_file()
    assert all("parts" in path.parts for path in Path("analyses").rglob("*.parquet"))
    again("pictures", write_pictures, seed=3)
    capsys.readouterr()
    ask("geometry", *BOTH, "--out", "elsewhere")
    assert "was made from another state of them; it is replaced" in capsys.readouterr().err


def test_alignment_reads_the_probes_of_the_same_stores(own):
    stores = Stores.open("pictures", "words", taxonomy="taxonomy.csv")
    assert probe_onsets(stores) == {}
    layer_probes.ANALYSIS.ask_stores(stores, layer_probes.Options(draws=40))
    assert set(probe_onsets(stores)) == {"slot", "last"}
    again("pictures", write_pictures, seed=3)
    with pytest.raises(MismatchError, match="another images"):
        probe_onsets(Stores.open("pictures", "words", taxonomy="taxonomy.csv"))


def test_the_page_about_probes_captures_and_asks_as_printed(tmp_path, monkeypatch, capsys):
    """The example of docs/probes.md, over a tenth of its leaves, whose numbers are therefore others."""
    page = (ROOT / "docs" / "probes.md").read_text(encoding="utf-8").partition("## Without a run")[2]
    code, command = (
        re.search(pattern, page, flags=re.DOTALL | re.MULTILINE)
        for pattern in (r"```python\n(.*?)```", r"^    \$ taxoprobe (analyse .*)$")
    )
    assert code
    assert command
    monkeypatch.chdir(tmp_path)
    edges = Taxonomy.read(ROOT / "taxogen" / "data" / "taxonomy.csv")
    Path("taxogen/data").mkdir(parents=True)
    edges.restrict(edges.leaves[::10]).write("taxogen/data/taxonomy.csv")
    exec(compile(code[1], "docs/probes.md", "exec"), {})
    assert console([*command[1].splitlines()[0].split(), "--span", "last", "--draws", "40"]) == 0
    said = capsys.readouterr().out
    assert re.search(
        r"^Layer probes of words: \d+ targets, 36 leaf concepts, split by leaf, mean AUROC", said
    )
    assert said.endswith("Table and figures: mine/analyses/words/layer_probes\n")
