"""Layer probes refuse what cannot be answered, in words that help, and write another question to another folder."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from analyses.frame.command_line import options_from
from analyses.frame.wording import folder_name
from analyses.layer_probes import ANALYSIS, check, design
from analyses.layer_probes.options import Options, refuse_unanswerable, steps_of
from analyses.layer_probes.rows import probe_table
from probing.store import MismatchError
from taxogen.world.taxonomy import Taxonomy
from tests.analyses.leaf_stores import TAXONOMY, MemoryStore, planted

QUICK = Options(draws=100, folds=4, penalties=(10.0, 1000.0), workers=1)


@pytest.fixture(scope="module")
def stores():
    return planted()


def test_tokens_one_by_one_are_refused(stores):
    class Tokens(MemoryStore):
        pooling = {"image": "all", "last": "last"}  # noqa: RUF012

    image, _ = stores
    with pytest.raises(ValueError, match="holds the tokens of span 'image' one by one"):
        probe_table({9: Tokens(image.values, image.columns)}, None, TAXONOMY, QUICK)


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ((), "layer_probes"),
        (("--span", "cue", "--step", "3"), "layer_probes"),
        (("--target", "leaf", "--split", "ungrouped"), "layer_probes-leaf-ungrouped"),
        (
            ("--probe", "logistic", "--captures", "heads", "--all-sites"),
            "layer_probes-logistic-heads-all-sites",
        ),
    ],
)
def test_another_question_does_not_overwrite_the_results_of_the_default_one(options, name):
    given = ANALYSIS.parser().parse_args(["--run", "r", *options])
    assert folder_name("layer_probes", options_from(Options, given)) == name


@pytest.mark.parametrize("name", ["../captures", "a/b", "/etc", ".", "..", "-x", "a b", "x" * 200])
def test_a_name_of_captures_that_is_a_path_is_refused(name):
    with pytest.raises(ValueError, match="--captures takes a name"):
        refuse_unanswerable(Options(captures=name))


def test_stores_that_do_not_belong_together_are_refused(stores):
    image, text = stores
    other = MemoryStore(image.values, image.columns.set_index(image.columns.index + "x"))
    with pytest.raises(MismatchError, match="image@9 holds other items than the first step"):
        probe_table({0: image, 9: other}, text, TAXONOMY, QUICK)
    strangers = MemoryStore(text.values, text.columns.assign(leaf="phlogiston"))
    with pytest.raises(MismatchError, match="picture and text rows share no leaf"):
        probe_table({9: image}, strangers, TAXONOMY, QUICK)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"probe": "oracle"}, "unknown probe 'oracle'; known: ridge, logistic, mass_mean"),
        ({"target": "colour"}, "unknown target 'colour'; known: hypernym, leaf, height"),
        ({"split": "random"}, "unknown split 'random'; known: leaf, ungrouped, family"),
        (
            {"sites": ("blocks.9.hook_resid_post",)},
            "the stores have no site 'blocks.9.hook_resid_post'; they share",
        ),
    ],
)
def test_unknown_choices_are_refused_with_the_known_ones(stores, change, message):
    image, text = stores
    with pytest.raises(KeyError, match=message):
        probe_table({9: image}, text, TAXONOMY, replace(QUICK, **change))


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"all_sites": True, "sites": ("hook_embed",)}, "--site and --all-sites were both given"),
        ({"target": "leaf"}, "no probe can name a leaf that it has never seen"),
    ],
)
def test_questions_that_no_run_can_answer_are_refused_before_a_run_is_opened(asked, message):
    with pytest.raises(ValueError, match=message):
        check([], Options(against=(Path("nowhere"),), **asked))


def test_every_run_needs_a_partner_that_is_there(monkeypatch):
    with pytest.raises(FileNotFoundError, match="nowhere is not a run directory"):
        check([], Options(against=(Path("nowhere"),)))
    monkeypatch.setattr("analyses.layer_probes.Run.open", lambda path: path)
    with pytest.raises(ValueError, match="--against names 1 partners for 2 runs; name one for each"):
        check([SimpleNamespace(), SimpleNamespace()], Options(against=(Path("b"),)))


def test_steps_are_numbers_or_the_last_one():
    run = SimpleNamespace(path="runs/a", steps=(0, 30, 60))
    assert steps_of(run, ()) == (0, 30, 60)
    assert steps_of(run, ("last", "30")) == (60, 30)
    with pytest.raises(ValueError, match=r"--step first was .* the number of a captured step \(0, 30, 60\)"):
        steps_of(run, ("first",))
    with pytest.raises(FileNotFoundError, match="runs/a has no captured step; `python -m taxogen train"):
        steps_of(SimpleNamespace(path="runs/a", steps=()), ())


def test_a_hypernym_needs_so_many_leaves_and_so_many_others_and_the_bound_itself_is_enough():
    leaves = tuple("abcdefgh")
    of = {"two": "ab", "three": "abc", "five": "abcde", "six": "abcdef"}
    taxonomy = Taxonomy(tuple((leaf, name) for name, members in of.items() for leaf in members) + tuple(
        (leaf, "all") for leaf in leaves
    ))  # fmt: skip
    names, labels = design._targets(taxonomy, leaves, "hypernym", 3)
    assert names == ("five", "three")
    assert labels.sum(axis=0).tolist() == [5, 3]
    with pytest.raises(
        ValueError, match="no hypernym has at least 5 of these 8 leaves under it and as many not"
    ):
        design._targets(taxonomy, leaves, "hypernym", 5)
