import numpy as np
import pandas as pd
import pytest

from taxogen.world import shuffle
from taxogen.world.taxonomy import Taxonomy


def flat(world):
    return Taxonomy(tuple((leaf, name) for leaf, names in world.items() for name in names))


WORLD = flat(
    {
        **{f"bird{letter}": ("animal", "bird") for letter in "abcd"},
        **{f"beast{letter}": ("animal", "mammal") for letter in "abc"},
        "cow": ("animal", "farm", "mammal"),
        "worm": ("animal", "soil"),
        "fowl": ("animal", "bird", "farm"),
        **{f"tool{letter}": ("tool",) for letter in "ab"},
        "spade": ("garden", "soil", "tool"),
    }
)


@pytest.mark.parametrize("kind", ["within", "across", "across-matched"])
@pytest.mark.parametrize("seed", range(5))
def test_maps_are_one_to_one_without_fixed_point(kind, seed):
    found = shuffle.leaf_map(WORLD, kind, seed)
    assert tuple(found) == WORLD.leaves
    assert sorted(found.values()) == list(WORLD.leaves)
    assert all(leaf != name for leaf, name in found.items())


def test_none_changes_nothing():
    assert all(leaf == name for leaf, name in shuffle.leaf_map(WORLD).items())


def test_within_stays_inside_its_groups():
    groups = shuffle.groups(WORLD)
    assert groups[("animal", "bird")] == ("birda", "birdb", "birdc", "birdd", "fowl")
    assert groups[("animal", "mammal")] == ("beasta", "beastb", "beastc", "cow", "worm")
    assert groups[("tool",)] == ("spade", "toola", "toolb")
    home = {leaf: key for key, members in groups.items() for leaf in members}
    for seed in range(5):
        assert all(home[leaf] == home[name] for leaf, name in shuffle.leaf_map(WORLD, "within", seed).items())


def test_an_orphan_has_no_group_whose_hypernyms_it_all_has():
    assert shuffle.orphans(WORLD) == ("worm",)


def test_maps_differ_by_seed_and_cover_all_derangements():
    small = flat({leaf: ("x",) for leaf in "abc"})
    seen = [tuple(shuffle.leaf_map(small, "within", seed).values()) for seed in range(300)]
    counts = {pair: seen.count(pair) for pair in sorted(set(seen))}
    assert list(counts) == [("b", "c", "a"), ("c", "a", "b")]
    assert abs(counts["b", "c", "a"] - 150) < 4 * np.sqrt(300 / 4)


def test_disjoint_never_shares_a_hypernym():
    world = flat({f"{name}{number}": (name,) for name in ("p", "q", "r") for number in range(6)})
    for seed in range(5):
        found = shuffle.leaf_map(world, "across", seed, disjoint=True)
        assert all(leaf[0] != name[0] for leaf, name in found.items())
        assert sorted(found.values()) == sorted(found)
    plain = [shuffle.leaf_map(world, "across", seed) for seed in range(5)]
    assert any(leaf[0] == name[0] for found in plain for leaf, name in found.items())
    assert len({tuple(shuffle.leaf_map(world, "across", s, disjoint=True).values()) for s in range(5)}) == 5


def test_maps_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="'animal' alone has 10 of 13 leaves"):
        shuffle.leaf_map(WORLD, "across", disjoint=True)
    alone = flat({"a": ("x",), "b": ("x",), "c": ("y",)})
    with pytest.raises(ValueError, match=r"no group that shares a hypernym with \['c'\]"):
        shuffle.leaf_map(alone, "within")
    with pytest.raises(ValueError, match="needs at least 2 leaves"):
        shuffle.leaf_map(flat({"a": ("x",)}), "across")
    with pytest.raises(KeyError, match="known: none, within, across, across-matched"):
        shuffle.leaf_map(WORLD, "between")
    with pytest.raises(ValueError, match="goes with across only"):
        shuffle.leaf_map(WORLD, "within", disjoint=True)


def test_relabelled_pictures_keep_what_they_show():
    table = pd.DataFrame({"picture": ["1", "2"], "leaf": ["a", "b"], "split": ["train", "test"]})
    found = shuffle.relabel(table, {"a": "b", "b": "a"})
    assert found["shown_leaf"].tolist() == ["a", "b"]
    assert found["leaf"].tolist() == ["b", "a"]
    assert table["leaf"].tolist() == ["a", "b"]
    with pytest.raises(ValueError, match="one-to-one"):
        shuffle.relabel(table, {"a": "b", "b": "b"})
    with pytest.raises(KeyError, match=r"1 leaves of the pictures are not in the shuffle: \['b'\]"):
        shuffle.relabel(table, {"a": "a"})
