"""The patching analysis on a toy run: a grid with its placebos, killed and gone on with, screened, drawn."""

import hashlib
import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from analyses import patching
from analyses.frame.command_line import options_from
from analyses.inputs.stimuli.pairs import pairs_of
from analyses.inputs.subject import Subject
from analyses.patching.options import KINDS, Options
from analyses.patching.rows import patching_table
from tests.analyses.patching.planted_subject import no_engine
from tests.analyses.patching.toy import patch


@pytest.fixture(scope="module")
def table(runs):
    patch(runs["pretrained"], "--placebo-run", str(runs["random"].path))
    return pd.read_parquet(runs["pretrained"].file("analyses/patching/text-to-image-denoising.parquet"))


def pick(table, **wanted):
    for name, value in wanted.items():
        table = table[table[name] == value]
    return table


def test_every_cell_has_its_effect_its_fraction_and_its_placebos(table):
    for target in ("hypernym", "leaf"):
        for state in (*KINDS, "random_init"):
            rows = pick(table, target=target, state=state, measure="effect", split="all")
            assert len(rows) == 2 * 3  # layers × spans
            assert (rows["n"] == 6).all()
            assert ((rows["lower"] <= rows["value"]) & (rows["value"] <= rows["upper"])).all()
        gap = pick(table, target=target, measure="gap")["value"].iloc[0]
        clean = pick(table, target=target, state="clean", split="all").set_index(["site", "span"])
        effect, share = (
            clean.loc[clean["measure"] == name, "value"] for name in ("effect", "restored_fraction")
        )
        known = share.notna()
        np.testing.assert_allclose(share[known], (effect / gap)[known], rtol=1e-6)
        notes = clean.loc[clean["measure"] == "restored_fraction", "note"]
        assert notes[~known].str.contains("do not differ").all()
    assert set(table["run"]) == {"pretrained"}
    assert set(pick(table, measure="counts")["note"]) == {
        "beats own, stranger, random, random_init",
        "beats own, sibling, stranger, random, random_init",
    }


def test_the_last_token_of_the_last_layer_carries_all_and_own_states_change_nothing(table):
    rows = pick(table, target="hypernym", state="clean", measure="effect", split="all", span="last")
    gap = pick(table, target="hypernym", measure="gap")["value"].iloc[0]
    assert rows.sort_values("layer")["value"].iloc[-1] == pytest.approx(gap, abs=1e-4)
    slot = pick(table, target="hypernym", measure="effect", split="all", span="slot", layer=1.0)
    assert slot["value"].abs().max() < 1e-5  # no later layer reads it
    assert (pick(table, measure="own_by_hooks")["value"] == 0).all()
    assert pick(table, measure="own_restarted")["value"].max() < 1e-5
    assert pick(table, measure="kl")["value"].min() > -1e-6


def test_figures_begin_with_the_name_of_the_table(runs, table, capsys):
    folder = runs["pretrained"].folder("analyses", "patching")
    names = {f"text-to-image-denoising-{name}.png" for name in patching.draw(table)}
    assert len(names) == 4
    assert names <= {path.name for path in folder.iterdir()}
    patch(runs["pretrained"], "--span", "last", "--question", "leaf", "--placebo", "--name", "short")
    out = capsys.readouterr().out
    short = pd.read_parquet(folder / "short.parquet")
    assert patching.summary(short) in out
    assert set(short["span"]) == {"", "last"}
    assert set(short["target"]) == {"leaf"}
    assert set(short["state"]) == {"", "clean", "own"}
    assert (folder / "short-leaf_hook_resid_post_grid.svg").is_file()


def test_a_second_start_runs_no_forward_pass_and_ends_with_the_same_table(runs, table, monkeypatch):
    no_engine(monkeypatch)
    path = runs["pretrained"].file("analyses/patching/text-to-image-denoising.parquet")
    path.unlink()
    patch(runs["pretrained"], "--placebo-run", str(runs["random"].path))
    pd.testing.assert_frame_equal(pd.read_parquet(path), table, check_exact=True)
    monkeypatch.setenv("TAXOPROBE_TRACEBACK", "1")
    with pytest.raises(AssertionError, match="a forward pass was run"):
        patch(runs["pretrained"], "--seed", "1")


def test_both_models_compute_in_the_number_type_and_the_placebo_run_takes_clean_states_alone(
    runs, table, monkeypatch
):
    opened, of = [], Subject.of

    def noted(run, dtype):
        opened.append((run.name, dtype))
        return of(run, dtype=dtype)

    monkeypatch.setattr(Subject, "of", noted)
    patch(runs["pretrained"], "--placebo-run", str(runs["random"].path))
    assert opened == [("pretrained", "float32"), ("random", "float32")]
    for path in runs["random"].file("analyses/patching/parts").glob("patched-*.npz"):
        with np.load(path) as part:
            assert len(part["log_odds"]) == 1


def test_parts_are_named_by_all_that_decides_their_numbers_and_by_nothing_else(runs, toy):
    """Options, cells, pairs, pictures, and the model with its projector and its world."""
    options = Options(chunk=4, questions=("leaf", "hypernym"), kinds=("random",), pairs=6, draws=9, name="x")
    grid = patching.prepare(toy, options)
    settings = {
        "direction": "text-to-image", "mode": "denoising", "sites": ["blocks.*.hook_resid_post"],
        "spans": ["slot", "cue", "last"], "slot": "mean", "heads": False, "window": 1, "cumulative": False,
        "questions": ["hypernym"], "kinds": ["clean", "random"], "integrated": 0, "chunk": 4, "seed": 0,
    }  # fmt: skip
    run = runs["pretrained"]
    deciding = [
        settings,
        [[f"blocks.{layer}.hook_resid_post", span, None] for span in settings["spans"] for layer in (0, 1)],
        [vars(pair) for pair in grid.pairs[4:]],
        dict(grid.stimuli.pictures),
        [run.makers(), run.record["manifest_hash"], "torch.float32"],
    ]
    key = hashlib.sha256(json.dumps(deciding, sort_keys=True).encode()).hexdigest()[:16]
    grid.part("patched", "hypernym", 4, lambda question, pairs: {"pairs": np.array(len(pairs))})
    assert (run.file("analyses/patching/parts") / f"patched-hypernym-0004-{key}.npz").is_file()


def test_parts_of_other_words_or_other_answers_are_not_mixed(toy, monkeypatch):
    grid = patching.prepare(toy, Options(pairs=6))

    def key():
        return grid._key("leaf", grid.pairs)

    plain = key()
    with monkeypatch.context() as other:
        other.setattr(Subject, "wording", {"wording": "chat"})
        assert key() != plain
    with monkeypatch.context() as other:
        tokens = np.arange(len(toy.candidates("leaf").names))
        tokens[1] = tokens[0]
        alike = replace(toy.candidates("leaf"), tokens=tokens)
        other.setitem(toy._candidates, "leaf", alike)
        assert key() != plain
    assert key() == plain


def test_a_killed_grid_goes_on_and_ends_with_the_same_numbers(toy, tmp_path, monkeypatch):
    options = Options(chunk=2, questions=("hypernym",), pairs=6)
    grid = replace(patching.prepare(toy, options), folder=tmp_path / "whole")
    whole, grid = grid.run("whole")["hypernym"], replace(grid, folder=tmp_path / "killed")
    work, calls = type(grid).patched, []

    def killed(self, question, pairs, done):
        calls.append(pairs[0].clean)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return work(self, question, pairs, done)

    monkeypatch.setattr(type(grid), "patched", killed)
    with pytest.raises(KeyboardInterrupt):
        grid.run("killed")
    assert len(list(grid.folder.glob("*.npz"))) == 1
    again = grid.run("again")["hypernym"]
    assert len(calls) == 4  # the first part was not made again
    for name, value in whole.items():
        np.testing.assert_array_equal(again[name], value)


@pytest.mark.parametrize(
    "direction, mode", [("image-to-text", "denoising"), ("picture-to-picture", "noising")]
)
def test_other_directions_start_at_their_own_runs(toy, direction, mode):
    """Noising is the same patch with the roles exchanged."""
    options = Options(direction=direction, mode=mode, questions=("hypernym",), kinds=(), pairs=6, draws=20)
    grid = patching.prepare(toy, options)
    outcomes = grid.run("other")["hypernym"]
    last = [i for i, cell in enumerate(grid.cells) if cell.span == "last"][-1]
    np.testing.assert_allclose(outcomes["log_odds"][0, last], outcomes["donor"], atol=1e-4)
    rows = patching_table({"hypernym": outcomes}, grid.pairs, grid.cells, options)
    name = "restored_fraction" if mode == "denoising" else "lost_fraction"
    assert len(pick(rows, measure=name)) == len(grid.cells)


def test_questions_are_those_of_the_run_s_evaluation(runs, toy):
    """The answer is left open, in pictures and in words, and the template is the run's."""
    grid = patching.prepare(toy, Options(pairs=6))
    for question, words in (("hypernym", "is a kind of"), ("leaf", "is also called")):
        for modality in ("image", "text"):
            (row,) = grid.stimuli.rows(question, [("crow", modality)]).values()
            assert row.spans["last"] == (len(row.ids) - 1,)
            cue = [row.ids[at] for at in row.spans["cue"]]
            assert toy.bench.vlm.lm.tokenizer.decode(cue) == words
    run = runs["pretrained"]
    other = replace(
        run, config=replace(run.config, evaluate=replace(run.config.evaluate, templates=("type",)))
    )
    asked = replace(toy, bench=replace(toy.bench, run=other), _candidates={})
    (row,) = patching.prepare(asked, Options(pairs=6)).stimuli.rows("hypernym", [("crow", "image")]).values()
    assert toy.bench.vlm.lm.tokenizer.decode([row.ids[at] for at in row.spans["cue"]]) == "is a type of"


def test_a_screened_grid_of_heads_patches_the_best_and_says_how_they_rank(runs, capsys):
    run = runs["pretrained"]
    patch(run, "--sites", "blocks.*.attn.hook_z", "--heads", "--question", "hypernym", "--placebo", "random",
          "--screen", "5", "--sampled", "8", "--name", "heads")  # fmt: skip
    assert "attribution ranks cells as patches do" in capsys.readouterr().out
    heads = pd.read_parquet(run.file("analyses/patching/heads.parquet"))
    attribution = pick(heads, measure="attribution").set_index(["site", "head", "span"])["value"].abs()
    assert len(attribution) == 2 * 4 * 3
    best = pick(heads, measure="effect", state="clean", split="all").set_index(["site", "head", "span"]).index
    assert set(best) == set(attribution.nlargest(5).index)
    agreement = pick(heads, measure="rank_agreement").iloc[0]
    assert agreement["n"] == 8
    assert -1 <= agreement["value"] <= 1
    assert {path.name for path in run.folder("analyses", "patching").glob("heads-*.png")} == {
        "heads-hypernym_attn_hook_z_heads.png",
        "heads-screen.png",
    }


def test_pairs_differ_in_a_hypernym_and_no_leaf_is_used_twice(runs):
    taxonomy = runs["pretrained"].taxonomy
    tokens = {name: at for at, name in enumerate(taxonomy.leaves)}
    pairs = pairs_of(taxonomy, tokens, taxonomy.hypernyms, 8, seed=3)
    assert len({pair.clean for pair in pairs}) == len({pair.corrupted for pair in pairs}) == 8
    for pair in pairs:
        clean, corrupted = (set(taxonomy.hypernyms_of(leaf)) for leaf in (pair.clean, pair.corrupted))
        assert pair.up in clean - corrupted
        assert pair.down in corrupted - clean
        assert pair.near == bool(clean & corrupted)
        assert pair.up in taxonomy.hypernyms_of(pair.sibling)
        assert pair.sibling != pair.clean
        assert not set(taxonomy.hypernyms_of(pair.stranger)) & (clean | corrupted)
    assert pairs == pairs_of(taxonomy, tokens, taxonomy.hypernyms, 8, seed=3)
    with pytest.raises(ValueError, match=r"40 pairs of leaves were asked for; 11 leaves make .* --pairs"):
        pairs_of(taxonomy, tokens, taxonomy.hypernyms, 40)
    read = pairs_of(taxonomy, tokens, {"bird", "fruit"}, 3, seed=3)
    assert {name for pair in read for name in (pair.up, pair.down)} == {"bird", "fruit"}
    alike = dict.fromkeys(tokens, 0)
    with pytest.raises(ValueError, match="11 leaves make 0"):
        pairs_of(taxonomy, alike, taxonomy.hypernyms, 1)


def test_the_command_line_names_placebos_and_the_screen_has_a_usual_size():
    def parsed(*words):
        return options_from(Options, patching.ANALYSIS.parser().parse_args(["--run", "R", *words]))

    assert parsed() == Options()
    assert parsed().kinds == KINDS
    assert parsed("--placebo").kinds == ("clean",)
    assert parsed("--placebo", "random", "sibling").kinds == ("clean", "random", "sibling")
    assert [parsed(*words).screen for words in ((), ("--screen",), ("--screen", "7"))] == [0, 30, 7]
    assert parsed("--span", "slot", "--span", "cue").spans == ("slot", "cue")
    assert parsed("--dtype", "run").dtype == "run"
    assert [parsed(*words).table for words in ((), ("--mode", "noising"), ("--name", "mine"))] == [
        "text-to-image-denoising", "text-to-image-noising", "mine",
    ]  # fmt: skip
    assert Options(mode="noising").modalities == ("image", "text")
