"""Contextual lens on runs: sentences, kinds of nearest words, planted ones found and exchanged ones not; refusals."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from analyses import lens
from analyses.lens import further
from analyses.lens.contextual import KINDS, Book, kinds_of, shares
from analyses.lens.neighbours import neighbour_rows, summary_lines
from analyses.lens.rows import lens_table
from analyses.lens.sentences import CONTEXTS, FRAMES, bank_sentences, terms_of
from probing.stats import draw_weights
from taxogen.world.taxonomy import Taxonomy
from tests.analyses.test_lens import planted_parts

LEAVES = [f"leaf {k:02d}" for k in range(40)]
WORDS = 60  # 40 leaves, 10 hypernyms, 10 others


def book(shuffles=19):
    """40 leaves, of four each a hypernym, and ten other words; words of a kind exchanged."""
    rng, numbers = np.random.default_rng(0), np.arange(WORDS)
    kind = np.repeat([0, 1, 2], [40, 10, 10])
    exchanged = np.array(
        [np.concatenate([rng.permutation(numbers[kind == one]) for one in range(3)]) for _ in range(shuffles)]
    )
    own = {leaf: at for at, leaf in enumerate(LEAVES)}
    hypernyms = {leaf: numbers == 40 + at // 4 for leaf, at in own.items()}
    return Book(SimpleNamespace(), (), numbers, own, hypernyms, kind, exchanged, {})  # pyright: ignore


def parts(nearest):
    """Parts of five layers; `nearest(layer)` gives the nearest word of four tokens of each leaf."""
    leaf = np.repeat(LEAVES, 4)
    return pd.concat(
        [
            shares(book(), nearest(layer), leaf).assign(
                site=f"blocks.{layer}.hook_resid_post", span="slot", near="same layer", modality="image"
            )
            for layer in range(5)
        ],
        ignore_index=True,
    )


def rows(nearest):
    return (
        pd.DataFrame(neighbour_rows(parts(nearest), draw_weights(40, 200)))
        .set_index(["measure", "target", "words", "site"])
        .sort_index()
    )


def test_a_word_is_of_one_kind_to_a_leaf_and_its_own_name_is_no_hypernym():
    kinds = kinds_of(book(), np.array([0, 40, 1, 41, 55]), np.array(LEAVES)[[0] * 5])
    np.testing.assert_array_equal(kinds, np.eye(5))
    same = book()
    same.hypernyms["leaf 00"][0] = True  # a leaf that is called as its hypernym
    assert kinds_of(same, np.array([0]), np.array(["leaf 00"])).tolist() == [[1, 0, 0, 0, 0]]


def test_a_planted_name_and_hypernym_are_found_at_their_layers_beyond_shuffled_banks():
    own, rng = np.repeat(np.arange(40), 4), np.random.default_rng(1)

    def nearest(layer):
        words = rng.integers(0, WORDS, 160)
        return (
            own
            if layer == 3
            else np.where(np.arange(160) % 4 == 0, 40 + own // 4, words)
            if layer == 1
            else words
        )

    table = rows(nearest)
    named, hypernym = (f"blocks.{layer}.hook_resid_post" for layer in (3, 1))
    assert table.loc[("nearest", "own name", "bank", named), "value"] == 1
    assert table.loc[("nearest", "own name", "bank", named), "lower"] == pytest.approx(0.025 ** (1 / 40))
    assert table.loc[("nearest", "own name", "bank − shuffled bank", named), "lower"] > 0.8
    assert table.loc[("nearest_p_corrected", "own name", "bank − shuffled bank", named), "value"] == 0.05
    assert table.loc[("nearest", "own hypernym", "bank", hypernym), "value"] > 0.25
    assert (
        table.loc[("nearest_p_corrected", "own hypernym", "bank − shuffled bank", hypernym), "value"] == 0.05
    )
    shares_of_bank = table.loc["nearest"].xs("bank", level="words")["value"].groupby("site").sum()
    np.testing.assert_allclose(shares_of_bank, 1)
    assert set(table.loc["nearest"].index.get_level_values("target")) == set(KINDS)


def test_where_one_word_is_near_to_everything_nothing_is_beyond_shuffled_banks():
    table = rows(lambda layer: np.full(160, 7))
    assert table.loc[("nearest", "own name", "bank", "blocks.0.hook_resid_post"), "value"] == 1 / 40
    beyond = table.xs("bank − shuffled bank", level="words").loc["nearest"]
    assert (beyond["lower"] <= 0).all()
    of_shares = table.loc["nearest"].drop("bank − shuffled bank", level="words")
    assert of_shares[["lower", "upper"]].stack().between(0, 1).all()
    assert (table.loc["nearest_p_corrected"]["value"] > 0.05).all()


def test_the_table_has_them_behind_the_evidence_and_figures_and_summary_show_them():
    words = parts(lambda layer: np.repeat(np.arange(40), 4))
    weights = draw_weights(40, 50)
    evidence = planted_parts({"leaf": 1, "hypernym": 4})
    plain = lens_table(evidence, weights, 0)
    near = neighbour_rows(words, weights)
    cosines = evidence[evidence["site"] != "blocks.5.hook_resid_post"].assign(lens="contextual", span="slot")
    table = lens_table(pd.concat([evidence, cosines], ignore_index=True), weights, 0, near).assign(
        run="planted"
    )
    pd.testing.assert_frame_equal(table.iloc[: len(plain)].drop(columns="run"), plain.drop(columns="run"))
    assert set(table[table["lens"] == "contextual"]["measure"]) >= {"cosine", "nearest", "nearest_p"}
    figures = lens.draw(table)
    assert set(figures) == {"log10_rank_image", "log_prob_image", "cosine_image", "nearest_image"}
    assert [axes.get_title() for axes in figures["nearest_image"].axes] == ["slot, same layer"]
    assert len(figures["nearest_image"].axes[0].get_lines()) >= 4
    assert summary_lines(table)[0].startswith(
        "  contextual, slot, image, same layer: nearest word is own name most often at block 0: 1.000 [0.912, 1.000]"
    )
    assert lens.summary(table).splitlines()[-2:] == summary_lines(table)
    assert summary_lines(plain) == []


TAXONOMY = Taxonomy((("crow", "bird"), ("bat2", "animal"), ("hand", "animal"), ("scissors", "tool")))


def test_each_name_stands_in_as_many_sentences_and_no_leaf_in_one_with_a_hypernym():
    sentences, names = bank_sentences(TAXONOMY, "", 0), terms_of(TAXONOMY)
    assert names == ("bat", "crow", "hand", "scissors", "animal", "bird", "tool")
    assert len(sentences) == len(set(sentences)) == CONTEXTS * len(names)
    for at, name in enumerate(names):
        for sentence in sentences[CONTEXTS * at : CONTEXTS * (at + 1)]:
            assert [other for other in names if other in sentence.replace(",", " ").split()] == [name]
    assert not any("of his hand" in sentence for sentence in sentences)  # that frame has a name in it
    assert any(" an animal " in sentence for sentence in sentences)
    assert bank_sentences(TAXONOMY, "", 0) == sentences != bank_sentences(TAXONOMY, "", 1)
    with pytest.raises(ValueError, match="each sentence that is built in has a name of this taxonomy"):
        bank_sentences(Taxonomy(tuple((word, "thing") for word in first_words())), "", 0)


def first_words():
    return {frame.split()[0] for frame in FRAMES}


def test_of_a_long_text_sentences_with_names_come_first(tmp_path, monkeypatch):
    path = tmp_path / "text.txt"
    lines = [f"Line {at} is about {'crows' if at % 10 == 0 else 'nothing'}." for at in range(90)]
    path.write_text("\n".join(lines), encoding="utf-8")
    assert bank_sentences(TAXONOMY, str(path), 0) == tuple(lines)
    monkeypatch.setattr("analyses.lens.sentences.LARGEST", 20)
    drawn = bank_sentences(TAXONOMY, str(path), 0)
    assert len(drawn) == 20
    assert sum("crows" in line for line in drawn) >= CONTEXTS
    assert list(drawn) == sorted(drawn, key=lines.index)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"bank": "x.txt"}, "--bank was given without the lens that uses it; add --lens contextual"),
        ({"template": "a ?"}, "--template was given without .* add --lens patchscope"),
        ({"bank": "x.txt", "lenses": ("contextual",)}, "--bank x.txt is no file"),
        ({"template": "a b", "lenses": ("patchscope",)}, r"has no '\?'"),
        ({"jacobian_rows": 9}, "--jacobian-rows was given without .* add --lens jacobian"),
        ({"jacobian_rows": 0, "lenses": ("jacobian",)}, "a Jacobian of 0 leaves"),
    ],
)
def test_options_that_cannot_be_followed_are_refused_first(given, said):
    with pytest.raises((ValueError, FileNotFoundError), match=said):
        lens.ANALYSIS.check([], lens.Options(**given))  # pyright: ignore[reportOptionalCall]


def test_without_the_package_its_corpus_is_refused(monkeypatch):
    monkeypatch.setattr("analyses.lens.sentences.find_spec", lambda _: None)
    with pytest.raises(
        FileNotFoundError, match="--bank latentlens needs the package: pip install latentlens"
    ):
        further.check(lens.Options(bank="latentlens", lenses=("contextual",)))
