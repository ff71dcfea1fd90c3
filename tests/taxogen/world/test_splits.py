import numpy as np
import pandas as pd
import pytest

from taxogen.world.splits import cut, split_pictures


def a_table(sizes, copies=()):
    rows = [
        (f"{leaf}/{number:03}.jpg", leaf, f"source{number % 5}", f"style{number % 5}", f"{leaf}-{number}")
        for leaf, size in sizes.items()
        for number in range(size)
    ]
    table = pd.DataFrame(rows, columns=["picture", "leaf", "source", "style_group", "content_hash"])
    for first, second in copies:
        table.loc[table["picture"] == second, "content_hash"] = table.loc[
            table["picture"] == first, "content_hash"
        ].iloc[0]
    return table


SIZES = {"crow": 12, "duck": 13, "owl": 16, "pear": 20}


@pytest.mark.parametrize(
    ("n", "parts"), [(12, (8, 1, 3)), (13, (9, 0, 4)), (16, (11, 1, 4)), (20, (14, 1, 5)), (2, (1, 0, 1))]
)
def test_shares_are_cut_as_the_study_cuts_them(n, parts):
    assert cut(n) == parts


def test_the_study_rule_takes_sorted_names():
    table = split_pictures(a_table(SIZES).sample(frac=1, random_state=0), "study")
    crow = table[table["leaf"] == "crow"]
    assert crow["split"].tolist() == ["train"] * 8 + ["validation"] + ["test"] * 3
    assert crow["picture"].is_monotonic_increasing


def test_seeded_has_the_same_shares_in_another_order():
    table = split_pictures(a_table(SIZES), seed=1)
    for leaf, size in SIZES.items():
        counts = table.loc[table["leaf"] == leaf, "split"].value_counts()
        assert tuple(counts.get(name, 0) for name in ("train", "validation", "test")) == cut(size)
    assert not table.equals(split_pictures(a_table(SIZES), seed=2))
    assert not table.equals(split_pictures(a_table(SIZES), "study"))


@pytest.mark.parametrize("rule", ["seeded", "study", "leaf", "source"])
def test_no_order_of_rows_matters(rule):
    sizes = {f"leaf{number}": 15 for number in range(20)}
    first = split_pictures(a_table(sizes), rule, seed=3)
    assert first.equals(split_pictures(a_table(sizes).sample(frac=1, random_state=1), rule, seed=3))


def test_another_leaf_leaves_the_others_alone():
    more = split_pictures(a_table({**SIZES, "ant": 9}), seed=5)
    assert (
        more[more["leaf"] != "ant"]
        .reset_index(drop=True)
        .equals(split_pictures(a_table(SIZES), seed=5).reset_index(drop=True))
    )


def test_whole_leaves_are_held_out():
    sizes = {f"leaf{number:02}": 6 for number in range(20)}
    table = split_pictures(a_table(sizes), "leaf", seed=0)
    assert (table.groupby("leaf")["split"].nunique() == 1).all()
    assert table.drop_duplicates("leaf")["split"].value_counts().to_dict() == {
        "train": 14,
        "test": 5,
        "validation": 1,
    }


@pytest.mark.parametrize("group", ["style_group", "source"])
def test_whole_sources_are_held_out(group):
    table = split_pictures(a_table({f"leaf{number}": 40 for number in range(3)}), "source", group=group)
    assert (table.groupby(group)["split"].nunique() == 1).all()
    assert table.drop_duplicates(group)["split"].value_counts().to_dict() == {"train": 4, "test": 1}


def test_a_source_split_that_leaves_a_leaf_bare_is_drawn_again():
    table = a_table({f"leaf{number}": 10 for number in range(6)})
    only = (table["leaf"] != "leaf0") | table["style_group"].isin(["style0", "style1"])
    for seed in range(10):
        found = split_pictures(table[only], "source", seed=seed)
        assert set(found.loc[found["leaf"] == "leaf0", "split"]) == {"train", "test"}
    alone = table[(table["leaf"] != "leaf0") | (table["style_group"] == "style0")]
    with pytest.raises(ValueError, match="'source' leaves 1 leaf concepts without a picture to train or to"):
        split_pictures(alone, "source")


@pytest.mark.parametrize("rule", ["leaf", "source"])
def test_copies_across_what_is_held_out_whole_are_refused(rule):
    sizes = {f"leaf{number}": 10 for number in range(6)}
    copies = [("leaf0/000.jpg", f"leaf{number}/{number:03}.jpg") for number in range(1, 6)]
    with pytest.raises(ValueError, match="remove the copies"):
        split_pictures(a_table(sizes, copies), rule)


def test_copies_stay_on_one_side_also_across_leaves():
    copies = [("crow/000.jpg", f"{leaf}/{number:03}.jpg") for leaf in ("crow", "duck") for number in (3, 11)]
    table = split_pictures(a_table(SIZES, copies), seed=0)
    assert (table.groupby("content_hash")["split"].nunique() == 1).all()
    other = ~table["content_hash"].isin(["crow-0"])
    plain = split_pictures(a_table(SIZES), seed=0)
    assert (table["split"][other] == plain["split"][other]).all()
    with pytest.raises(ValueError, match=r"same bytes as a picture on the other side .*crow/000\.jpg"):
        split_pictures(a_table(SIZES, copies), seed=0, duplicates="refuse")


def test_refuse_accepts_a_table_without_torn_copies():
    table = a_table(SIZES)
    assert split_pictures(table, duplicates="refuse").equals(split_pictures(table))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (
            {"rule": "random"},
            KeyError,
            "split rule 'random' was asked for; known: seeded, study, leaf, source",
        ),
        ({"duplicates": "drop"}, KeyError, "known: together, refuse"),
        ({"rule": "source", "group": "artist"}, KeyError, r"no column \['artist'\]"),
        ({"shares": (0.5, 0.1, 0.1)}, ValueError, "must be three numbers that add up to 1"),
    ],
)
def test_bad_arguments_are_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        split_pictures(a_table(SIZES), **arguments)


def test_tables_that_cannot_be_split_are_refused():
    with pytest.raises(ValueError, match=r"1 leaf concepts have fewer than 2 pictures.*\['ant'\]"):
        split_pictures(a_table({**SIZES, "ant": 1}))
    with pytest.raises(ValueError, match="pictures occur more than once"):
        split_pictures(pd.concat([a_table(SIZES)] * 2))
    alike = a_table({"crow": 4, "duck": 4})
    alike["content_hash"] = np.where(alike["leaf"] == "crow", "same", alike["content_hash"])
    with pytest.raises(
        ValueError, match=r"leaves 1 leaf concepts without a picture to train or to test on: \['crow'\]"
    ):
        split_pictures(alike)
