"""A folder with stores of made-up pictures and words, and the table of their taxonomy."""

import shutil

import pytest
from tiny_dictionaries import drawn, write_sae_lens

from probing.store import ActivationStore
from tests.analyses.stores.made_up_stores import write_pictures, write_taxonomy, write_words


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A folder with stores of pictures and of words, and the table of their taxonomy."""
    folder = tmp_path_factory.mktemp("stores")
    write_pictures(folder / "pictures")
    write_words(folder / "words")
    write_taxonomy(folder / "taxonomy.csv")
    width = ActivationStore.open(folder / "words").read("blocks.1.hook_resid_post", "last").shape[1]
    write_sae_lens(folder / "dictionary", drawn(width, 2 * width))
    return folder


@pytest.fixture
def here(world, monkeypatch):
    monkeypatch.chdir(world)
    return world


@pytest.fixture
def own(world, tmp_path, monkeypatch):
    """A copy of the folder, to be changed."""
    shutil.copytree(world, tmp_path, dirs_exist_ok=True, ignore=shutil.ignore_patterns("analyses"))
    monkeypatch.chdir(tmp_path)
    return tmp_path
