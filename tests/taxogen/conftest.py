import pytest

from taxogen.world.taxonomy import Taxonomy


@pytest.fixture
def toy_taxonomy() -> Taxonomy:
    """3 hypernyms x 4 leaves; tomato stands under two of them (so 11 leaves)."""
    below = {
        "bird": ("crow", "duck", "eagle", "owl"),
        "fruit": ("apple", "banana", "pear", "tomato"),
        "vegetable": ("carrot", "onion", "pea", "tomato"),
    }
    return Taxonomy(tuple((leaf, hypernym) for hypernym, leaves in below.items() for leaf in leaves))
