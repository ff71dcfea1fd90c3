"""Questions about activations, asked of stores and a taxonomy without a run: numbers, equality with a run, refusals."""

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from analyses import geometry, layer_probes
from analyses.frame import registry
from analyses.frame.stores import Stores
from analyses.text_alignment.digest import probe_onsets
from probing.store import ActivationStore, MismatchError
from taxogen.runs.run import Run
from taxogen.stages.pipeline import train_run
from taxogen.world.taxonomy import Taxonomy
from tests.analyses.leaf_stores import LEAVES, TAXONOMY
from tests.analyses.made_up_stores import write_pictures, write_taxonomy, write_words
from tests.probing.tiny_models import SMALL
from tests.world import toy_config, toy_folder

OF_STORES = tuple(name for name in registry.questions() if not isinstance(registry.load(name).of_stores, str))
OF_MODELS = tuple(name for name in registry.questions() if name not in OF_STORES)
BOTH = ("--images", "pictures", "--text", "words", "--taxonomy", "taxonomy.csv")
QUICK = {"layer_probes": ("--draws", "40", "--folds", "3", "--controls", "1")}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A folder with stores of pictures and of words, and the table of their taxonomy."""
    folder = tmp_path_factory.mktemp("stores")
    write_pictures(folder / "pictures")
    write_words(folder / "words")
    write_taxonomy(folder / "taxonomy.csv")
    return folder


@pytest.fixture
def here(world, monkeypatch):
    monkeypatch.chdir(world)
    return world


@pytest.fixture
def own(world, tmp_path, monkeypatch):
    """A copy of the folder, to be changed."""
    shutil.copytree(world, tmp_path, dirs_exist_ok=True, ignore=shutil.ignore_patterns("analyses"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def ask(name, *flags):
    registry.load(name).main([*flags, *QUICK.get(name, ("--draws", "40"))])


def refused(capsys, name, *flags):
    """The one line with which a command line is refused."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as end:
        registry.load(name).main(list(flags))
    assert end.value.code == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith(f"python -m analyses.{name}: ")
    return line


def test_the_questions_that_need_only_activations():
    assert set(OF_STORES) == {"layer_probes", "cohesion", "geometry", "text_alignment"}


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
def test_the_stores_of_a_run_give_the_numbers_of_the_run(trained, name, held_out):
    analysis = registry.load(name)
    assert not isinstance(analysis.of_stores, str)
    options = analysis.options(draws=40, held_out=held_out)
    of_run = analysis.compute([trained], options).table
    images = [trained.store_path(step, "image") for step in trained.steps]
    table = trained.path / "taxonomy.csv"
    stores = Stores.open(images, trained.store_path(None, "text"), taxonomy=table)
    of_stores = analysis.of_stores(stores, options).table
    assert set(of_run["step"]) - {-1} == set(trained.steps)
    expected = of_run[~of_a_run_alone(of_run)].reset_index(drop=True)
    pd.testing.assert_frame_equal(
        of_stores.drop(columns="run"), expected.drop(columns="run"), check_exact=True, check_dtype=False
    )
    assert set(of_stores["run"]) == {f"step-{trained.steps[-1]:06d}+text"}


@pytest.mark.parametrize("name", OF_MODELS)
def test_a_question_that_needs_a_model_says_why(here, name, capsys):
    said = refused(capsys, name, *BOTH, *(("--data", "released") if name == "published" else ()))
    assert f"{name} cannot be asked of stores: it " in said
    assert ("`taxoprobe adopt`" in said) == (name != "published")
    stores = Stores.open("pictures", taxonomy="taxonomy.csv")
    with pytest.raises(ValueError, match=f"{name} cannot be asked of stores"):
        registry.load(name).ask_stores(stores, registry.load(name).options())


REFUSED = {
    "nothing": ((), "nothing was given to ask; give --run DIR, or stores"),
    "both": (("--run", "r", *BOTH), "--run and --images were both given"),
    "no table": (BOTH[:4], "without --taxonomy TABLE"),
    "no store": (BOTH[4:], "--taxonomy was given without a store"),
    "no such store": (("--images", "nowhere", *BOTH[2:]), "no activation store in nowhere"),
    "no such table": ((*BOTH[:4], "--taxonomy", "nowhere.csv"), "No taxonomy table at nowhere.csv"),
    "no such column": ((*BOTH, "--leaf-column", "species"), "pictures has no column 'species'.*are leaf"),
    "one store twice": (
        ("--images", "pictures", "--text", "./pictures", *BOTH[4:]),
        "one store was given twice",
    ),
    "held out": ((*BOTH, "--held-out", "fish"), "'fish' is no hypernym of these leaves; known: bird, fruit"),
    "twice": ((*BOTH, "--held-out", "bird", "bird"), "--held-out bird was asked for twice"),
    "span": ((*BOTH, "--span", "verb"), "no span 'verb' in these stores; they have slot, last"),
    "step": ((*BOTH, "--step", "7"), "no picture rows of step 7 were given"),
}


@pytest.mark.parametrize("name", OF_STORES)
@pytest.mark.parametrize("what", REFUSED)
def test_refusals_are_one_line_before_any_number(here, name, what, capsys, monkeypatch):
    flags, said = REFUSED[what]
    reads, read = [], ActivationStore.read
    monkeypatch.setattr(ActivationStore, "read", lambda *given: reads.append(given) or read(*given))
    assert re.search(said, refused(capsys, name, *flags))
    assert len(reads) <= 2  # a row of each store, for its width


SPOILT = {
    "leaves not in the table": (
        lambda: write_taxonomy(Path("taxonomy.csv"), TAXONOMY.restrict(LEAVES[2:])),
        "2 of 32 leaves of the stores are no leaves of taxonomy.csv: bird 0, bird 1",
    ),
    "many leaves not in the table": (
        lambda: write_taxonomy(Path("taxonomy.csv"), TAXONOMY.restrict(LEAVES[5:])),
        "5 of 32 leaves of the stores are no leaves of taxonomy.csv: bird 0, bird 1, bird 2 …",
    ),
    "no hypernym is large enough": (
        lambda: write_taxonomy(
            Path("taxonomy.csv"), Taxonomy(tuple((leaf, f"above {k // 2}") for k, leaf in enumerate(LEAVES)))
        ),
        "no hypernym has (at least )?[34] of these 32 leaves",
    ),
    "no shared leaf": (
        lambda: (
            again("words", write_words, leaves=LEAVES[:4])
            or again("pictures", write_pictures, leaves=LEAVES[4:])
        ),
        "the stores share no leaf: pictures names bird 4, bird 5, bird 6 …; words names bird 0, bird 1, bird 2 …",
    ),
    "no shared site": (
        lambda: again("pictures", write_pictures, sites="blocks.*.hook_mlp_out"),
        "pictures and words share no site: blocks.0.hook_mlp_out",
    ),
    "another width": (
        lambda: again("words", write_words, model=narrow()),
        "pictures and words are of different models: blocks.0.hook_resid_post is 32 and 16 wide",
    ),
    "no shared span": (
        lambda: again("words", write_words, noun="word", last="end"),
        r"no span of pictures \(image, last\) is one of words \(word, end\)",
    ),
    "tokens one by one": (
        lambda: again("pictures", write_pictures, pooling={"image": "all", "last": "last"}),
        "holds the tokens of span 'image' one by one",
    ),
    "rows without a leaf": (
        lambda: again("pictures", write_pictures, leaves=LEAVES[:3], column="kind"),
        "pictures has no column 'leaf'.*its columns are kind",
    ),
}


def narrow():
    """A language model of width 16."""
    torch.manual_seed(0)
    size: dict[str, Any] = {**SMALL, "hidden_size": 16}
    return LlamaForCausalLM(LlamaConfig(**size)).eval()


def again(path, write, **settings):
    """Captures into a folder anew."""
    shutil.rmtree(path)
    write(Path(path), **settings)


@pytest.mark.parametrize("what", SPOILT)
def test_stores_that_do_not_go_together_are_refused(own, what, capsys, monkeypatch):
    spoil, said = SPOILT[what]
    spoil()
    for name in OF_STORES:
        if what == "no hypernym is large enough" and name == "text_alignment":
            continue  # it has no hypernyms
        assert re.search(said, refused(capsys, name, *BOTH))


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


def test_results_go_where_they_are_asked_to_and_are_replaced_with_a_line(own, capsys):
    ask("geometry", *BOTH, "--out", "elsewhere")
    assert Path("elsewhere/geometry.parquet").is_file()
    assert not Path("analyses").exists()
    again("pictures", write_pictures, seed=3)
    capsys.readouterr()
    ask("geometry", *BOTH, "--out", "elsewhere")
    assert "was made from others or from another state of them; it is replaced" in capsys.readouterr().err


def test_alignment_reads_the_probes_of_the_same_stores(own):
    stores = Stores.open("pictures", "words", taxonomy="taxonomy.csv")
    assert probe_onsets(stores) == {}
    layer_probes.ANALYSIS.ask_stores(stores, layer_probes.Options(draws=40))
    assert set(probe_onsets(stores)) == {"slot", "last"}
    again("pictures", write_pictures, seed=3)
    with pytest.raises(MismatchError, match="another images"):
        probe_onsets(Stores.open("pictures", "words", taxonomy="taxonomy.csv"))
