"""The patching analysis on a toy run: a grid with its placebos, killed and gone on with, screened, drawn, refused."""

import numpy as np
import pandas as pd
import pytest

from analyses import patching
from analyses.patching import rows
from analyses.patching.grid import KINDS, Options
from analyses.patching.pairs import Pair, pairs_of
from probing.patching import Cell
from probing.sites import Site
from taxogen.runs.bench import open_bench
from taxogen.runs.run import Run
from taxogen.stages.pipeline import train_run
from tests.world import toy_config, write_world

SETTINGS = ("train.steps=4", "capture.at=")


@pytest.fixture(scope="module")
def runs(tmp_path_factory, toy_lm):
    """A trained toy run, and one of a random-init language model."""
    folder = tmp_path_factory.mktemp("toy_patching")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TAXOPROBE_CACHE", str(folder / "cache"))
        world = write_world(folder, toy_lm)
        made = {}
        for init in ("pretrained", "random"):
            made[init] = Run.create(folder / init, toy_config(world, *SETTINGS, f"model.init={init}"))
            train_run(made[init])
        yield made


def patch(run, *more):
    patching.main(["--run", str(run.path), "--pairs", "6", "--draws", "50", *more])


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
        assert (
            clean.loc[clean["measure"] == "restored_fraction", "note"][~known]
            .str.contains("do not differ")
            .all()
        )
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


def test_a_killed_grid_goes_on_and_ends_with_the_same_numbers(runs, table, monkeypatch):
    run = runs["pretrained"]
    options = Options(chunk=2, questions=("hypernym",))
    first = patching.prepare(open_bench(run), options, 6)
    whole = patching.run_grid(first, "whole")["hypernym"]
    for part in first.folder.glob("*.npz"):
        part.unlink()
    work, calls = type(first).patched, []

    def killed(self, question, pairs, done):
        calls.append(pairs[0].clean)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return work(self, question, pairs, done)

    monkeypatch.setattr(type(first), "patched", killed)
    with pytest.raises(KeyboardInterrupt):
        patching.run_grid(first, "killed")
    assert len(list(first.folder.iterdir())) == 1
    again = patching.run_grid(first, "again")["hypernym"]
    assert len(calls) == 4  # the first part was not made again
    for name, value in whole.items():
        np.testing.assert_array_equal(again[name], value)


@pytest.mark.parametrize(
    "direction, mode", [("image-to-text", "denoising"), ("picture-to-picture", "noising")]
)
def test_other_directions_start_at_their_own_runs(runs, direction, mode):
    """Noising is the same patch with the roles exchanged."""
    bench = open_bench(runs["pretrained"])
    options = Options(direction=direction, mode=mode, questions=("hypernym",), kinds=("clean",))
    made = patching.prepare(bench, options, 6)
    found = patching.run_grid(made, "other")["hypernym"]
    last = [i for i, cell in enumerate(made.cells) if cell.span == "last"][-1]
    np.testing.assert_allclose(found["log_odds"][0, last], found["donor"], atol=1e-4)
    rows = patching.compute({"hypernym": found}, made.pairs, made.cells, options, draws=20)
    name = "restored_fraction" if mode == "denoising" else "lost_fraction"
    assert len(pick(rows, measure=name)) == len(made.cells)


def test_a_screened_grid_of_heads_patches_the_best_and_says_how_they_rank(runs, capsys):
    run = runs["pretrained"]
    patch(run, "--sites", "blocks.*.attn.hook_z", "--heads", "--question", "hypernym", "--placebo", "random",
          "--screen", "5", "--sampled", "8", "--name", "heads")  # fmt: skip
    assert "attribution ranks cells as patches do" in capsys.readouterr().out
    found = pd.read_parquet(run.file("analyses/patching/heads.parquet"))
    assert len(pick(found, measure="attribution")) == 2 * 4 * 3
    assert len(pick(found, measure="effect", state="clean", split="all")) == 5
    agreement = pick(found, measure="rank_agreement").iloc[0]
    assert agreement["n"] == 8
    assert -1 <= agreement["value"] <= 1
    assert {path.name for path in run.folder("analyses", "patching").glob("heads-*.png")} == {
        "heads-hypernym_attn_hook_z_heads.png",
        "heads-screen.png",
    }


def test_figures_come_from_the_table_alone_and_the_summary_says_what_counts(table):
    figures = patching.draw(table)
    assert set(figures) == {
        f"{target}_hook_resid_post_{kind}" for target in ("hypernym", "leaf") for kind in ("grid", "curves")
    }
    said = figures["leaf_hook_resid_post_grid"].texts[-1].get_text().replace("\n", " ")
    for part in ("n = 6 leaf pairs", "95 %", "a cell counts where it beats own, sibling, stranger"):
        assert part in said
    text = patching.summary(table)
    assert "hypernym: the two runs differ by" in text
    assert "counts at" in text


def test_planted_effects_count_and_planted_nothings_do_not():
    rng = np.random.default_rng(0)
    pairs = [
        Pair(f"leaf{i}", f"other{i}", "up", "down", i % 2 == 0, "sibling", "stranger") for i in range(60)
    ]
    cells = [Cell((Site("hook_resid_post", layer),), "slot") for layer in range(20)]
    noise = rng.normal(0, 1, (4, 20, 60))
    noise[:2, 3] += 2.0  # in one cell the clean state and a sibling's carry the hypernym
    noise[:, 7] += 2.0  # in another anything does
    found = {
        "log_odds": noise - 1, "base": np.full(60, -1.0), "donor": np.full(60, 3.0), "kl": noise**2,
        **{name: noise for name in ("up", "down", "other")}, "shared": np.full_like(noise, np.nan),
    }  # fmt: skip
    table = patching.compute({"hypernym": found, "leaf": found}, pairs, cells, Options(), draws=400)
    counted = pick(table, measure="counts", value=1.0)
    assert counted["layer"].tolist() == [3]  # of the hypernym alone: a sibling does as well for the leaf
    assert counted["target"].tolist() == ["hypernym"]
    assert pick(table, measure="shared").empty
    level = {**found, "donor": np.full(60, -1.0)}
    none = pick(
        patching.compute({"hypernym": level}, pairs, cells, Options(), draws=50), measure="restored_fraction"
    )
    assert none["value"].isna().all()
    assert none["note"].str.contains("clean and corrupted do not differ").all()


def test_pairs_differ_in_a_hypernym_and_no_leaf_is_used_twice(runs):
    taxonomy = runs["pretrained"].taxonomy
    tokens = {name: at for at, name in enumerate((*taxonomy.leaves, *taxonomy.hypernyms))}
    pairs = pairs_of(taxonomy, taxonomy.leaves, tokens, 8, seed=3)
    assert len({pair.clean for pair in pairs}) == len({pair.corrupted for pair in pairs}) == 8
    for pair in pairs:
        clean, corrupted = (set(taxonomy.hypernyms_of(leaf)) for leaf in (pair.clean, pair.corrupted))
        assert pair.up in clean - corrupted
        assert pair.down in corrupted - clean
        assert pair.near == bool(clean & corrupted)
        assert pair.up in taxonomy.hypernyms_of(pair.sibling)
        assert pair.sibling != pair.clean
        assert not set(taxonomy.hypernyms_of(pair.stranger)) & (clean | corrupted)
    assert pairs == pairs_of(taxonomy, taxonomy.leaves, tokens, 8, seed=3)
    with pytest.raises(ValueError, match=r"40 pairs of leaves were asked for; 11 leaves make .* --pairs"):
        pairs_of(taxonomy, taxonomy.leaves, tokens, 40)


def test_what_cannot_be_patched_is_refused_before_anything_is_run(runs, tmp_path):
    bench = open_bench(runs["pretrained"])
    with pytest.raises(
        ValueError, match=r"'slot' has 1 tokens where the state comes from and 2 where it goes"
    ):
        patching.prepare(bench, Options(slot="each"), 6)
    with pytest.raises(KeyError, match="no site matches"):
        patching.prepare(bench, Options(sites=("blocks.77.hook_resid_post",)), 6)
    with pytest.raises(FileNotFoundError, match="python -m taxogen train"):
        patch(Run(tmp_path / "nothing", bench.run.config))
    assert rows.PLACEBOS["leaf"][0] == "sibling"
