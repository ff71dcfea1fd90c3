"""The shipped taxonomy: every picture has a place in it, and no name gives its hypernym away."""

from importlib import resources

import pytest

from taxogen.world import pictures
from taxogen.world.taxonomy import Taxonomy


@pytest.fixture(scope="module")
def taxonomy() -> Taxonomy:
    with resources.as_file(resources.files("taxogen") / "data" / "taxonomy.csv") as path:
        return Taxonomy.read(path)


def test_leaves_are_those_with_pictures(taxonomy):
    assert taxonomy.leaves == pictures.load("pictograms").leaves


def test_every_node_has_a_synset(taxonomy):
    assert set(taxonomy.synsets) == set(taxonomy.nodes)


def test_several_levels(taxonomy):
    assert taxonomy.hypernyms_of("crow") == ("animal", "bird")
    assert taxonomy.hypernyms_of("apple") == ("food", "fruit")
    assert taxonomy.hypernyms_of("tomato") == ("food", "fruit", "vegetable")
    assert taxonomy.hypernyms_of("ladybug") == ("animal", "arthropod", "insect", "invertebrate")
    assert taxonomy.height("animal") > taxonomy.height("bird") > taxonomy.height("crow") == 0


def test_every_hypernym_has_four_leaves_and_leaves_some_out(taxonomy):
    for hypernym in taxonomy.hypernyms:
        assert 4 <= len(taxonomy.leaves_of(hypernym)) < len(taxonomy.leaves) / 2


def test_no_name_contains_its_hypernym(taxonomy):
    """Else naming the leaf in training would be evidence for the hypernym (palm tree, sunflower)."""
    for node in taxonomy.leaves:
        for hypernym in taxonomy.hypernyms_of(node):
            assert hypernym not in node, (node, hypernym)
            assert not set(hypernym.split()) & set(node.split()), (node, hypernym)


def test_hypernyms_share_no_word(taxonomy):
    """Else a seen hypernym would be evidence for a held-out one (string instrument, musical instrument)."""
    words = [word for hypernym in taxonomy.hypernyms for word in hypernym.split() if len(word) > 2]
    assert len(words) == len(set(words))
