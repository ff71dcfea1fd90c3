"""Category exchange: whole categories, one to one, with the most leaves that any exchange keeps."""

import subprocess
import sys
from itertools import combinations

import numpy as np
import pytest

from taxogen.runs.config import DataConfig
from taxogen.runs.prepare import taxonomy_of
from taxogen.world import shuffle
from taxogen.world.categories import categories
from taxogen.world.taxonomy import Taxonomy


def world(sizes, *more):
    edges = [(f"{name}{number}", name) for name, size in sizes.items() for number in range(size)]
    return Taxonomy((*edges, *more))


def sides(taxonomy, names):
    """The pairs (category shown, category called) of a map."""
    home = {leaf: name for name, members in categories(taxonomy).items() for leaf in members}
    return {(home[leaf], home[name]) for leaf, name in names.items()}


def most(sizes):
    """The most leaves that pairs and rings of three of these sizes keep: all of them tried."""
    tried = [
        len(ring) * min(sizes[at] for at in ring)
        + most([size for at, size in enumerate(sizes) if at not in ring])
        for length in (2, 3)
        for ring in combinations(range(len(sizes)), length)
    ]
    return max(tried, default=0)


@pytest.mark.parametrize("seed", range(8))
def test_whole_categories_change_names_and_the_most_leaves_stay(seed):
    sizes = np.random.default_rng(seed).integers(3, 12, size=3 + seed % 4).tolist()
    taxonomy = world(dict(zip("pqrstuv", sizes, strict=False)))
    names = shuffle.leaf_map(taxonomy, "category", seed)
    assert list(names) == sorted(names) == sorted(names.values())
    assert not [leaf for leaf, name in names.items() if leaf[0] == name[0]]
    pairs = sides(taxonomy, names)
    assert len(pairs) == len({shown for shown, _ in pairs}) == len({called for _, called in pairs})
    assert len(names) == most(sizes)


def test_three_categories_of_one_size_leave_nothing_out_and_seeds_differ():
    taxonomy = world(dict.fromkeys("pqr", 4))
    maps = [shuffle.leaf_map(taxonomy, "category", seed) for seed in range(6)]
    assert all(len(names) == 12 for names in maps)
    assert len({tuple(names.values()) for names in maps}) == 6
    assert {tuple(sorted(sides(taxonomy, names))) for names in maps} == {
        (("p", "q"), ("q", "r"), ("r", "p")),
        (("p", "r"), ("q", "p"), ("r", "q")),
    }


def test_kinds_of_a_category_are_called_by_kinds_of_the_other():
    kinds = {"bird": "animal", "fish": "animal", "dish": "food", "fruit": "food"}
    taxonomy = world({"bird": 6, "fish": 8, "dish": 8, "fruit": 6}, *kinds.items())
    for seed in range(3):
        names = shuffle.leaf_map(taxonomy, "category", seed)
        kind = {tuple(text.rstrip("0123456789") for text in pair) for pair in names.items()}
        assert len(names) == 28
        assert kind == {("bird", "fruit"), ("fruit", "bird"), ("fish", "dish"), ("dish", "fish")}


def test_of_a_larger_category_each_kind_keeps_its_share():
    taxonomy = world({"bird": 20, "fish": 10, "food": 15}, ("bird", "animal"), ("fish", "animal"))
    names = shuffle.leaf_map(taxonomy, "category", 1)
    assert sum(leaf.startswith("bird") for leaf in names) == 10
    assert sum(leaf.startswith("fish") for leaf in names) == 5


def test_a_leaf_of_both_categories_is_left_out_rather_than_the_exchange():
    taxonomy = world({"car": 9, "ball": 8}, ("car0", "ball"), ("tool0", "tool"), ("tool1", "tool"))
    names = shuffle.leaf_map(taxonomy, "category")
    assert sides(taxonomy, names) == {("car", "ball"), ("ball", "car")}
    assert len(names) == 16
    assert "car0" not in names


@pytest.mark.parametrize("sizes", [{"animal": 10, "tool": 3}, {"animal": 6}])
def test_an_exchange_of_fewer_than_half_of_the_leaves_is_refused(sizes):
    count, said = 6 * (len(sizes) - 1), "use within or across-plain"
    with pytest.raises(ValueError, match=f"exchange {count} of .* 'animal' has {sizes['animal']}.*; {said}"):
        shuffle.leaf_map(world(sizes), "category")


def test_a_hypernym_of_all_leaves_forbids_every_exchange():
    rooted = world({"p": 4, "q": 4}, ("p", "thing"), ("q", "thing"))
    with pytest.raises(ValueError, match=r"could exchange 0 of 8 leaves .* 'thing' has 8"):
        shuffle.leaf_map(rooted, "category")


def test_the_bundled_categories_keep_nine_in_ten_leaves():
    taxonomy = taxonomy_of(DataConfig())
    for seed in (0, 1):
        names = shuffle.leaf_map(taxonomy, "category", seed)
        assert len(names) == 314
        assert len(sides(taxonomy, names)) == len(categories(taxonomy)) == 14


def test_maps_depend_on_neither_hash_seed_nor_file_order():
    script = (
        "from taxogen.world import shuffle; from taxogen.world.taxonomy import Taxonomy; import random; "
        "edges = [(f'{name}{number}', name) for name in 'pqrst' for number in range(7)]; random.shuffle(edges); "
        "world = Taxonomy(tuple(edges)); "
        "print([shuffle.leaf_map(world, kind, 3) for kind in ('category', 'graded', 'across')])"
    )
    run = subprocess.run(
        [sys.executable, "-c", script], env={"PYTHONHASHSEED": "7", "PYTHONPATH": ":".join(sys.path)},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    kinds = ("category", "graded", "across")
    here = [shuffle.leaf_map(world(dict.fromkeys("pqrst", 7)), kind, 3) for kind in kinds]
    assert run.stdout.strip() == str(here)
