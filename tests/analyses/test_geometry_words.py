"""Taxonomic geometry given word vectors: explained away where words have the taxonomy, over the leaves they have."""

import logging
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from analyses import geometry
from analyses.geometry.digest import summary
from analyses.geometry.rows import RSA, geometry_table
from analyses.geometry.words import input_embeddings, word_distances, word_vectors
from analyses.inputs.references import taxonomic_distances
from probing.categories.geometry import partial_rsa
from probing.similarity.gram import leaf_means
from probing.similarity.rsa import rdm
from taxogen.questions.nouns import spoken
from tests.analyses.leaf_stores import LEAVES, SITES, TAXONOMY, planted

QUICK = geometry.Options(permutations=99, draws=20, spans=("image",), sites=SITES[-1:])


def measured(table, name):
    return table[(table["measure"] == name) & (table["modality"] == "image")].iloc[0]


@pytest.fixture(scope="module")
def image():
    return planted()[0]


def test_words_that_have_the_taxonomy_explain_it_away_and_words_of_nothing_do_not(image):
    x, leaves = image.read(SITES[-1], "image").astype(float), image.columns["leaf"].to_numpy().astype(str)
    same = dict(zip(np.unique(leaves), leaf_means((x - x.mean(0)) / x.std(0), leaves)[0]))
    noise = dict(zip(LEAVES, np.random.default_rng(0).normal(size=(len(LEAVES), 20))))
    given = {}
    for name, words in (("same", same), ("noise", noise)):
        table = geometry_table({0: image}, None, TAXONOMY, QUICK, words=words)
        given[name] = measured(table, f"{RSA}_given_words")
        plain = measured(table, RSA)
    assert plain["lower"] > 0.2
    assert given["noise"]["value"] == pytest.approx(plain["value"], abs=0.05)
    assert given["same"]["value"] < 0.3 * plain["value"]
    assert measured(table, f"{RSA}_given_words_p_corrected")["value"] == pytest.approx(0.01, abs=0.01)
    assert "taxonomic_rsa_given_words: best" in summary(table.assign(run="toy"))
    assert "taxonomic_distance" in geometry.draw(table)


def test_leaves_without_a_vector_are_left_out_of_it_alone_and_named(image, tmp_path, caplog):
    rng, path = np.random.default_rng(1), tmp_path / "vectors.txt"
    vectors = {leaf: rng.normal(size=3) for leaf in LEAVES[2:]}
    lines = [
        f"{spoken(leaf).replace(' ', '_')} {' '.join(map(repr, v.tolist()))}" for leaf, v in vectors.items()
    ]
    path.write_text("\n".join(lines), encoding="utf-8")
    with caplog.at_level(logging.WARNING):
        words = word_vectors(str(path), LEAVES, None)
    assert words is not None
    assert set(words) == set(LEAVES[2:])
    assert f"2 of {len(LEAVES)} leaves have no vector" in caplog.text
    assert all(leaf in caplog.text for leaf in LEAVES[:2])
    table = geometry_table({0: image}, None, TAXONOMY, QUICK, words=words)
    assert measured(table, RSA)["n"] == len(LEAVES)
    row = measured(table, f"{RSA}_given_words")
    assert row["n"] == len(LEAVES) - 2
    path.write_text("\n".join(lines[: len(lines) // 2]), encoding="utf-8")
    with pytest.raises(ValueError, match="leaves have no vector in"):
        word_vectors(str(path), LEAVES, None)


def test_the_measure_is_partial_rsa_of_the_leaves_that_have_words():
    rng = np.random.default_rng(2)
    kept = list(LEAVES[:-3])
    words = {leaf: rng.normal(size=4) for leaf in kept}
    image = planted()[0]
    table = geometry_table({0: image}, None, TAXONOMY, replace(QUICK, treatment="raw"), words=words)
    x, leaves = image.read(SITES[-1], "image").astype(float), image.columns["leaf"].to_numpy().astype(str)
    own = np.isin(leaves, kept)
    means = leaf_means(x, leaves)[0][np.isin(np.unique(leaves), kept)]
    target = taxonomic_distances(TAXONOMY, sorted(set(leaves)))[
        np.ix_(*[np.isin(np.unique(leaves), kept)] * 2)
    ]
    result = partial_rsa(
        rdm(means)[None], target, [word_distances(words, np.unique(leaves[own]).tolist())], 99, 0
    )
    assert measured(table, f"{RSA}_given_words")["value"] == pytest.approx(result.value[0, 0])


def test_input_embeddings_are_rows_of_the_input_table_over_the_tokens_of_a_word():
    table = torch.nn.Embedding(6, 4)
    ids = {" crow": [1], " ice cream": [2, 5]}
    lm = SimpleNamespace(
        model=SimpleNamespace(get_input_embeddings=lambda: table),
        tokenizer=lambda text, add_special_tokens: {"input_ids": ids[text]},
    )
    vectors = input_embeddings(lm, ["crow", "ice_cream"])  # pyright: ignore[reportArgumentType]
    weight = table.weight.detach().numpy()
    np.testing.assert_allclose(vectors["crow"], weight[1])
    np.testing.assert_allclose(vectors["ice_cream"], (weight[2] + weight[5]) / 2)


def test_vectors_that_are_not_there_are_refused_before_anything_is_read(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no such file"):
        word_vectors(str(tmp_path / "none.txt"), LEAVES, None)
    with pytest.raises(ValueError, match="have no language model"):
        word_vectors("input-embeddings", LEAVES, None)
