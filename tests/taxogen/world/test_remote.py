"""Pictures by a URL: the table and pictures of the same folder here, read again where they change; clear refusals."""

import pickle
import shutil

import fsspec
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from probing.store import MismatchError
from taxogen.runs.bench import open_bench
from taxogen.runs.run import Run
from taxogen.world import picture_files, pictures, remote
from tests.world import toy_config, toy_folder

NAMES = ("crow/B.WEBP", "crow/a.jpg", "night owl/x.png", "night owl/y.jpeg")


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("TAXOPROBE_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def here(tmp_path):
    """Two leaves of two pictures in a folder, and files that are none."""
    root = tmp_path / "mine"
    for number, name in enumerate(NAMES):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 6), (40 * number, 100, 50)).save(root / name)
    (root / "crow" / "notes.txt").write_text("no picture")
    (root / ".hidden").mkdir()
    shutil.copy(root / NAMES[0], root / ".hidden" / "B.WEBP")
    (root / "crow" / "deep").mkdir()
    shutil.copy(root / NAMES[0], root / "crow" / "deep" / "B.WEBP")
    return root


@pytest.fixture(params=["memory", "file"])
def url(request, here, tmp_path):
    """The same folder behind a URL."""
    if request.param == "file":
        yield f"file://{shutil.copytree(here, tmp_path / 'far' / 'mine')}"
        return
    system = fsspec.filesystem("memory")
    system.put(str(here), "/far/mine", recursive=True)
    yield "memory://far/mine"
    system.rm("/far", recursive=True)


def test_pictures_are_those_of_the_folder(here, url):
    near, far = pictures.load(here), pictures.load(url)
    assert far.table["picture"].tolist() == list(NAMES)
    pd.testing.assert_frame_equal(far.table, near.table)
    for name in NAMES:
        assert far.read(name) == (here / name).read_bytes()
    np.testing.assert_array_equal(np.asarray(far.open(NAMES[2])), np.asarray(near.open(NAMES[2])))
    again = pickle.loads(pickle.dumps(far))  # as workers get it
    assert again.read(NAMES[1]) == far.read(NAMES[1])
    closed = pictures.of_table(url, far.table)
    assert closed.faults(list(NAMES)) == {"missing": [], "changed": []}


def test_pictures_are_decoded_once_and_again_where_one_changes(url, monkeypatch):
    first = pictures.load(url)
    with monkeypatch.context() as patch:
        patch.setattr(picture_files, "_verify", lambda *_: pytest.fail("decoded again"))
        pd.testing.assert_frame_equal(pictures.load(url).table, first.table)
    system, path = remote.filesystem(url)
    system.put_file(__file__, f"{path}/crow/a.jpg")
    with pytest.raises(ValueError, match=r"1 of 4 pictures in .* cannot be read"):
        pictures.load(url)
    with pytest.raises(MismatchError, match=r"crow/a\.jpg .* has changed"):
        first.read("crow/a.jpg")


def test_where_no_version_is_told_every_picture_is_decoded_again(url, monkeypatch):
    pictures.load(url)
    monkeypatch.setattr(remote, "_VERSIONS", ())
    calls = []
    monkeypatch.setattr(picture_files, "_verify", lambda root, names: calls.append(1) or ["0"] * len(names))
    pictures.load(url)
    pictures.load(url)
    assert len(calls) == 2


def test_what_is_gone_or_new_is_told(url):
    recorded = pictures.load(url).table
    system, path = remote.filesystem(url)
    system.rm_file(f"{path}/crow/a.jpg")
    system.cp_file(f"{path}/crow/B.WEBP", f"{path}/crow/new.webp")
    told = pictures.compare(recorded, url)
    assert told == {"missing": ["crow/a.jpg"], "changed": [], "new": ["crow/new.webp"]}
    assert pictures.compare(recorded, f"{url}-gone")["missing"] == list(NAMES)


def test_things_lie_below_images(here, url):
    system, path = remote.filesystem(url)
    system.put(str(here), f"{path}-things/images", recursive=True)
    found = pictures.load(f"{url}-things")
    assert found.leaves == ("crow", "night owl")
    assert set(found.table["source"]) == {"things"}
    assert found.open(NAMES[0]).size == (8, 6)


def test_features_of_a_run_are_those_of_the_folder(tmp_path_factory, toy_lm):
    with toy_folder(tmp_path_factory.mktemp("far"), toy_lm) as settings:
        system = fsspec.filesystem("memory")
        system.put("world/pictures", "/store/pictures", recursive=True)
        benches = []
        for name, more in (("near", ()), ("far", ("data.pictures=memory://store/pictures",))):
            run = Run.create(name, toy_config(settings, *more))
            with run.alone():
                benches.append(open_bench(run))
            assert Run.open(name).closed
        system.rm("/store", recursive=True)
    near, far = (np.concatenate(list(bench.features.parts())) for bench in benches)
    np.testing.assert_array_equal(near, far)
    assert benches[0].world.manifests["train"].hash == benches[1].world.manifests["train"].hash


def missing(*_):
    raise ImportError("Install s3fs to access S3")


def broken(*_, **__):
    raise RuntimeError("no credentials\nfound")


def test_a_url_that_cannot_be_read_is_one_line(url, monkeypatch):
    with pytest.raises(FileNotFoundError, match="No pictures at memory://nowhere: nothing is there"):
        pictures.load("memory://nowhere")
    with pytest.raises(ValueError, match="nfs://server/things was asked for; Protocol not known: nfs"):
        pictures.load("nfs://server/things")
    system, _ = remote.filesystem(url)
    with monkeypatch.context() as patch:
        patch.setattr(type(system), "find", broken)
        with pytest.raises(OSError, match=r"mine cannot be listed: no credentials found"):
            pictures.load(url)
        patch.setattr(fsspec.core, "url_to_fs", missing)
        expected = r"Install s3fs to access S3: `pip install 'taxoprobe\[s3\]'`"
        with pytest.raises(ModuleNotFoundError, match=expected):
            pictures.load("s3://bucket/things")
