import numpy as np
import pandas as pd
import pytest

from taxogen.answers.rows import labels_of, named_leaves, only_leaves
from taxogen.world.taxonomy import Taxonomy

WORLD = Taxonomy((("crow", "bird"), ("bird", "animal"), ("oak", "plant"), ("dog", "animal")))
TABLE = pd.DataFrame({"leaf": ["oak", "crow", "dog", "crow"]})


def test_rows_have_the_hypernyms_of_their_leaf_in_the_order_of_the_columns():
    assert WORLD.hypernyms == ("animal", "bird", "plant")
    assert labels_of(TABLE, WORLD).tolist() == [
        [False, False, True],
        [True, True, False],
        [True, False, False],
        [True, True, False],
    ]
    chosen = labels_of(TABLE, WORLD, ("plant", "animal"))
    assert chosen.tolist() == [[True, False], [False, True], [False, True], [False, True]]
    with pytest.raises(KeyError, match=r"hypernyms \['tree'\] are not in the taxonomy; known: animal, bird"):
        labels_of(TABLE, WORLD, ("bird", "tree"))


def test_scores_of_other_leaves_are_nan_and_keep_their_rows():
    scores = np.arange(12.0).reshape(4, 3)
    kept = only_leaves(scores, TABLE, ["crow"])
    assert np.isnan(kept[[0, 2]]).all()
    assert (kept[[1, 3]] == scores[[1, 3]]).all()
    assert not np.isnan(scores).any()


def test_a_leaf_is_named_when_at_least_this_share_of_its_pictures_is():
    leaves = ["oak", "crow", "oak", "crow", "dog", "oak"]
    right = np.array([True, True, False, False, False, False])
    assert named_leaves(leaves, right) == ("crow",)
    assert named_leaves(leaves, right, at_least=0.3) == ("crow", "oak")
    assert named_leaves(leaves, right, at_least=0.6) == ()
