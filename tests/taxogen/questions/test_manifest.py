import hashlib
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from probing.store import MismatchError
from taxogen.questions import ablation, items
from taxogen.questions.manifest import COLUMNS, FIELDS, Item, Manifest
from taxogen.world import shuffle, splits

CROW = Item("hypernym", "crow/1.png", "crow", "crow", "bird", "bird", "kind", "image", "train")


def a_table(taxonomy, count=8, order=None):
    rows = [
        (f"{leaf}/{number:02}.png", leaf, f"source{number % 4}", f"style{number % 4}", f"{leaf}{number}")
        for leaf in taxonomy.leaves
        for number in range(count)
    ]
    table = pd.DataFrame(rows, columns=["picture", "leaf", "source", "style_group", "content_hash"])
    return table if order is None else table.iloc[order]


def test_an_id_is_a_hash_of_all_fields_and_of_nothing_else():
    fields = {name: str(getattr(CROW, name)) for name in FIELDS}
    assert CROW.item_id == hashlib.blake2b("\0".join(fields.values()).encode(), digest_size=8).hexdigest()
    for name in FIELDS:
        assert Item(**{**fields, name: fields[name] + "x"}).item_id != CROW.item_id


def test_items_in_any_order_give_the_same_manifest(toy_taxonomy):
    listed = list(items.training_items(splits.split_pictures(a_table(toy_taxonomy)), toy_taxonomy).items)
    turned = [listed[place] for place in np.random.default_rng(0).permutation(len(listed))]
    assert Manifest.from_items(listed).hash == Manifest.from_items(turned).hash
    assert [item.item_id for item in Manifest.from_items(turned).items] == Manifest.from_items(listed).frame[
        "item_id"
    ].tolist()


def test_ids_follow_from_the_fields_whatever_the_frame_says():
    frame = Manifest.from_items([CROW]).frame.astype(str).assign(item_id="made up")
    assert Manifest(frame).frame["item_id"].tolist() == [CROW.item_id]


def test_where_keeps_what_is_equal_and_says_so():
    duck = Item("leaf", "duck/1.png", "duck", "duck", "", "duck", "called", "image", "test")
    both = Manifest.from_items([CROW, duck], operation="made")
    assert list(both.where(leaf="duck").items) == [duck]
    assert len(both.where(leaf=("duck", "crow"), task="hypernym")) == 1
    assert both.where(split="test").provenance == (
        {"operation": "made"},
        {"operation": "where", "split": "test"},
    )
    with pytest.raises(KeyError, match="column 'leave' was asked for; known: item_id, task"):
        both.where(leave="duck")


def test_written_and_read_back_it_is_the_same(tmp_path):
    odd = Item("leaf", 'a "b", ü/1.png', "nan", "None", "", "NA", "called", "image", "test")
    manifest = Manifest.from_items([CROW, odd], operation="made", seed=3)
    manifest.write(tmp_path, "train")
    back = Manifest.read(tmp_path, "train")
    assert list(back.items) == list(manifest.items)
    assert back.provenance == manifest.provenance
    assert back.hash == manifest.hash
    assert sorted(path.name for path in tmp_path.iterdir()) == ["train.csv", "train.json"]
    back.write(tmp_path, "again")
    assert (tmp_path / "again.csv").read_bytes() == (tmp_path / "train.csv").read_bytes()


def test_a_changed_file_is_refused(tmp_path):
    path = Manifest.from_items([CROW]).write(tmp_path)
    path.write_text(path.read_text().replace("bird", "fish"))
    with pytest.raises(MismatchError, match="prepare the manifest again"):
        Manifest.read(tmp_path)
    path.with_suffix(".json").unlink()
    with pytest.raises(FileNotFoundError, match="python -m taxogen prepare"):
        Manifest.read(tmp_path)


def test_an_empty_manifest_can_be_kept(tmp_path):
    empty = Manifest.from_items([CROW]).where(leaf="duck")
    empty.write(tmp_path)
    assert len(Manifest.read(tmp_path)) == 0
    assert tuple(empty.frame.columns) == COLUMNS


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"task": ["colour"]}, r"column 'task' holds \['colour'\]; it may hold leaf, hypernym"),
        ({"split": ["val"]}, "it may hold train, validation, test"),
        ({"size": ["3"]}, r"unknown: \['size'\]"),
        ({"leaf": [None]}, "column 'leaf' has undefined values"),
    ],
)
def test_a_frame_that_is_no_manifest_is_refused(change, message):
    frame = Manifest.from_items([CROW]).frame.astype(str).assign(**change)
    with pytest.raises(ValueError, match=message):
        Manifest(frame)


def test_a_missing_column_and_a_repeated_item_are_refused():
    frame = Manifest.from_items([CROW]).frame.astype(str)
    with pytest.raises(ValueError, match=r"missing: \['prompt'\]"):
        Manifest(frame.drop(columns="prompt"))
    with pytest.raises(ValueError, match=r"1 manifest items occur more than once, for example .*crow/1\.png"):
        Manifest.from_items([CROW, CROW])


SCRIPT = """
import sys, random
import pandas as pd
from taxogen.questions import ablation
from taxogen.questions import items
from taxogen.world import shuffle
from taxogen.world import splits
from taxogen.world.taxonomy import Taxonomy
names = {"bird": ["crow", "duck", "owl"], "fruit": ["apple", "tomato"], "vegetable": ["pea", "tomato"]}
edges = {(leaf, name) for name, leaves in names.items() for leaf in leaves}
taxonomy = Taxonomy(tuple(edges))
leaves = {leaf for leaf, _ in edges}
rows = [(f"{leaf}/{n}.png", leaf, f"s{n % 3}", f"{leaf}{n}") for leaf in leaves for n in range(9)]
random.Random(int(sys.argv[2])).shuffle(rows)
table = pd.DataFrame(rows, columns=["picture", "leaf", "style_group", "content_hash"])
table = splits.split_pictures(table, seed=1)
table = shuffle.relabel(table, shuffle.leaf_map(taxonomy, "across", 1))
prompts = {"leaf": ("called", "is_there_leaf"), "hypernym": ("kind", "is_there")}
made = items.training_items(table, taxonomy, prompts=prompts, negatives="hard", seed=1)
ablation.ablate(made, taxonomy, "random", fraction=.5, seed=1).write(sys.argv[1], "train")
items.evaluation_items(table, taxonomy, prompts=prompts).write(sys.argv[1], "test")
"""


def test_the_same_bytes_under_any_hash_seed_and_any_listing(tmp_path):
    found = set()
    for seed in ("0", "1", "4242"):
        folder = tmp_path / seed
        folder.mkdir()
        subprocess.run(
            [sys.executable, "-c", SCRIPT, str(folder), seed],
            check=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
        )
        found.add(tuple((path.name, path.read_bytes()) for path in sorted(folder.iterdir())))
    assert len(found) == 1


def test_twenty_thousand_pictures_by_fifty_three_hypernyms_stay_small():
    size = 20_000 * 53
    frame = pd.DataFrame(
        {
            "task": "hypernym",
            "picture": np.repeat([f"leaf/{number}.jpg" for number in range(20_000)], 53),
            "shown_leaf": np.repeat([f"leaf{number % 1222}" for number in range(20_000)], 53),
            "leaf": np.repeat([f"leaf{number % 1222}" for number in range(20_000)], 53),
            "hypernym": np.tile([f"hypernym{number}" for number in range(53)], 20_000),
            "answer": np.tile(["Yes", "No"], size // 2),
            "prompt": "is_there",
            "modality": "image",
            "split": "test",
        }
    ).astype("category")
    manifest = Manifest(frame)
    assert len(manifest) == size
    assert manifest.frame.memory_usage(deep=True).sum() < 100e6


def test_provenance_records_every_operation(toy_taxonomy):
    table = shuffle.relabel(
        splits.split_pictures(a_table(toy_taxonomy)), shuffle.leaf_map(toy_taxonomy, "across")
    )
    made = ablation.ablate(items.training_items(table, toy_taxonomy), toy_taxonomy, "full")
    assert [step["operation"] for step in made.provenance] == ["training_items", "ablate"]
