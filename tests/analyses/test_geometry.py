"""The geometry analysis follows a planted taxonomy from its layer on, and draws its maps from the table."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from analyses import _geometry_figures
from analyses import geometry as analysis
from probing.geometry import participation_ratio
from tests.analyses.leaf_stores import LEAVES, ONSET, SITES, TAXONOMY, planted

QUICK = analysis.Options(permutations=199, draws=60)


@pytest.fixture(scope="module")
def stores():
    return planted()


@pytest.fixture(scope="module")
def found(stores):
    image, text = stores
    leaves = np.array(LEAVES)
    encoder = np.random.default_rng(5).standard_normal((len(leaves), 9))
    return analysis.compute({0: image}, text, TAXONOMY, QUICK, (encoder, leaves)).assign(run="toy")


def pick(table, **wanted):
    for name, value in ({"span": "slot", "modality": "image"} | wanted).items():
        table = table[table[name] == value]
    return table.sort_values("layer")


@pytest.mark.parametrize("name", ["taxonomic_rsa", "taxonomic_rsa_given_encoder"])
def test_distance_follows_the_taxonomy_from_the_planted_layer(found, name):
    p = pick(found, measure=f"{name}_p_corrected")
    # One draw of three silent layers: at the 1 % level, so that chance rarely speaks.
    assert ((p["value"] < 0.01) == (p["layer"] >= ONSET)).all()
    assert (pick(found, measure=name)["n"] == len(LEAVES)).all()


def test_encoder_that_has_the_taxonomy_explains_it_away(stores):
    image, _ = stores
    x = image.read(SITES[-1], "image").astype(float)
    x = (x - x.mean(0)) / x.std(0)
    table = analysis.compute({0: image}, None, TAXONOMY, QUICK, (x, image.columns["leaf"].to_numpy()))
    last = {"span": "image", "site": SITES[-1]}
    plain = pick(table, measure="taxonomic_rsa", **last)["value"].iloc[0]
    given = pick(table, measure="taxonomic_rsa_given_encoder", **last)["value"].iloc[0]
    assert plain > 0.3
    assert given == 0


def test_equal_shares_make_an_orthogonal_hierarchy(found):
    ratios = pick(found, measure="hierarchy_ratio")
    late = ratios[ratios["layer"] >= ONSET]
    assert ((late["lower"] < 1.3) & (late["upper"] > 0.7)).all()
    assert (ratios["lower"] < ratios["upper"]).all()


def test_dimensions_fall_when_leaves_share_categories(found):
    ratios = pick(found, measure="participation_ratio")
    assert (
        ratios.loc[ratios["layer"] >= ONSET, "value"].max()
        < ratios.loc[ratios["layer"] < ONSET, "value"].min()
    )
    assert (ratios["lower"] < ratios["value"]).all()


def test_jackknife_covers_the_truth():
    covered = []
    for seed in range(100):
        x = np.random.default_rng(seed).standard_normal((80, 6))
        found = analysis.jackknife(participation_ratio, x)
        covered.append(found.lower <= 6 <= found.upper)
    assert np.mean(covered) == pytest.approx(0.95, abs=0.06)


def test_hierarchy_steps_compare_with_categories_that_share_no_leaf():
    members = np.zeros((10, 3), dtype=bool)
    members[:5, 0] = members[5:, 1] = members[3:7, 2] = True
    gram = np.random.default_rng(0).standard_normal((10, 10))
    own, other, children = analysis.hierarchy_steps(gram @ gram.T, members)
    assert len(own) == len(other) == 10
    assert children.tolist() == [*range(5), *range(5, 10)]
    with pytest.raises(ValueError, match="shares leaves with every other"):
        analysis.hierarchy_steps(gram @ gram.T, members[:, :1])


def test_map_places_every_leaf_and_draws_from_the_table(found):
    places = pick(found, measure="pc1", site=SITES[-1])
    assert sorted(places["target"]) == list(LEAVES)
    assert places["value"].std(ddof=0) == pytest.approx(1, abs=0.01)
    figures = analysis.draw(found, TAXONOMY)
    assert set(figures) == {"taxonomic_distance", "hierarchy", "dimension", "map"}
    assert len(figures["map"].axes) == 3
    thumbnails = _geometry_figures.leaf_map(
        found[found["layer"].notna()], TAXONOMY, lambda leaf: Image.new("RGB", (8, 8))
    )
    assert len(thumbnails.axes[0].artists) == len(LEAVES)
    assert "hierarchy ratio" in analysis.summary(found)


def test_figures_do_not_need_more_than_the_table_on_disk(found, tmp_path):
    found.to_parquet(tmp_path / "geometry.parquet", index=False)
    again = pd.read_parquet(tmp_path / "geometry.parquet")
    assert set(analysis.draw(again, TAXONOMY)) == set(analysis.draw(found, TAXONOMY))
