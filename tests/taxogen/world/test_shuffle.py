import numpy as np
import pandas as pd
import pytest

from probing.store import records
from taxogen.runs.config import DataConfig
from taxogen.runs.prepare import taxonomy_of
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


THREE = flat({f"{name}{number}": (name,) for name in ("p", "q", "r") for number in range(6)})


@pytest.mark.parametrize("kind", ["within", "across-plain", "across-plain-matched"])
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


def test_across_never_shares_a_hypernym_and_plain_may():
    for seed in range(5):
        found = shuffle.leaf_map(THREE, "across", seed)
        assert all(leaf[0] != name[0] for leaf, name in found.items())
        assert sorted(found.values()) == sorted(found)
        assert found == shuffle.leaf_map(THREE, "across-matched", seed)
    plain = [shuffle.leaf_map(THREE, "across-plain", seed) for seed in range(5)]
    assert any(leaf[0] == name[0] for found in plain for leaf, name in found.items())
    assert len({tuple(shuffle.leaf_map(THREE, "across", seed).values()) for seed in range(5)}) == 5


@pytest.mark.parametrize(
    ("kind", "digest"),
    [
        ("within", "82b6ccb374c1"),
        ("across", "fecf12504f90"),
        ("across-matched", "fecf12504f90"),
        ("across-plain", "330bec0c8965"),
        ("across-plain-matched", "330bec0c8965"),
    ],
)
def test_maps_stay_what_they_were(kind, digest):
    taxonomy = taxonomy_of(DataConfig())
    names = [shuffle.leaf_map(taxonomy, kind, seed) for seed in (0, 7)]
    assert records.digest_of(names)[:12] == digest


def drawn_worlds():
    """Taxonomies of 3 to 6 categories with kinds below some of them and leaves in two, and doses."""
    for seed in range(12):
        rng = np.random.default_rng(seed)
        names = "pqrstu"[: rng.integers(3, 7)]
        size = int(rng.integers(8, 30))
        world = {f"{name}{number}": [name] for name in names for number in range(size + rng.integers(3))}
        for own in world.values():
            own += [f"{own[0]}-kind"] if rng.random() < 0.4 else []
            own += [names[0]] if rng.random() < 0.05 and names[0] not in own else []
        yield flat(world), seed, sorted(rng.uniform(0.1, 0.9, 4))


@pytest.mark.parametrize(("world", "seed", "doses"), list(drawn_worlds()))
def test_graded_doses_are_nested_and_each_leaf_is_inside_or_across(world, seed, doses):
    homes = {leaf: key for key, members in shuffle.groups(world).items() for leaf in members}
    before: set[str] = set()
    for dose in doses:
        found = shuffle.leaf_map(world, "graded", seed, coherence=dose)
        assert tuple(found) == world.leaves
        assert sorted(found.values()) == sorted(found)
        assert all(leaf != name for leaf, name in found.items())
        inside = {leaf for leaf, name in found.items() if homes[leaf] == homes[name]}
        shared = {a for a, b in found.items() if set(world.hypernyms_of(a)) & set(world.hypernyms_of(b))}
        assert inside == shared
        assert abs(len(inside) - dose * len(found)) <= 1.5
        assert before <= inside
        before = inside


def test_graded_spreads_a_dose_over_all_groups():
    found = shuffle.leaf_map(THREE, "graded", 3, coherence=0.5)
    inside = [leaf[0] for leaf, name in found.items() if leaf[0] == name[0]]
    assert {name: inside.count(name) for name in "pqr"} == {"p": 3, "q": 3, "r": 3}
    maps = {tuple(shuffle.leaf_map(THREE, "graded", seed).values()) for seed in range(5)}
    assert len(maps) == 5


def test_maps_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="'animal' alone has 10 of 13 leaves; use across-plain"):
        shuffle.leaf_map(WORLD, "across")
    with pytest.raises(
        ValueError, match=r"of 7 leaves; they are the share that data\.coherence=0\.5 puts across"
    ):
        shuffle.leaf_map(WORLD, "graded")
    for dose, said in ((0.0, "0 .*=across"), (0.04, "0 .*=across"), (1.0, "18 .*=within")):
        with pytest.raises(ValueError, match=f"data.coherence={dose:g} leaves {said}"):
            shuffle.leaf_map(THREE, "graded", coherence=dose)
    alone = flat({"a": ("x",), "b": ("x",), "c": ("y",)})
    with pytest.raises(ValueError, match=r"no group that shares a hypernym with \['c'\]"):
        shuffle.leaf_map(alone, "within")
    with pytest.raises(ValueError, match="needs at least 2 leaves"):
        shuffle.leaf_map(flat({"a": ("x",)}), "across-plain")
    with pytest.raises(KeyError, match="known: none, within, category, graded, across, across-matched"):
        shuffle.leaf_map(WORLD, "between")


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
