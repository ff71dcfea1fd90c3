"""Rows of features: read as they were stored, standardised as numpy would the whole, in three number types."""

import gc
import os
import shutil

import h5py
import numpy as np
import pytest
import torch
from PIL import Image

from taxogen.models.encoders import Encoder
from taxogen.models.features import FeatureRows, PictureStandardizer, cache, features
from taxogen.models.features.rows import _sum
from taxogen.world import pictures

DTYPES = {"float32": np.float32, "bfloat16": np.uint16, "float16": np.float16}


@pytest.fixture(autouse=True)
def files(tmp_path, monkeypatch):
    monkeypatch.setenv("TAXOPROBE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "features"


@pytest.fixture(scope="module")
def collection(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for at in range(23):
        (folder / f"leaf{at % 3}").mkdir(exist_ok=True)
        pixels = rng.integers(0, 255, (4, 4, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"leaf{at % 3}" / f"{at:02d}.png")
    return pictures.load(folder)


def encoder(scale: float = 1.0) -> Encoder:
    """Pixels of 4 × 4 as features, with a fraction that no half-precision number has."""
    return Encoder(
        "pixels",
        "1",
        "p",
        "CC0-1.0",
        (4, 4),
        3,
        lambda picture: np.asarray(picture, dtype=np.float32).transpose(2, 0, 1),
        lambda pixels: pixels.reshape(len(pixels), 3, 16).transpose(0, 2, 1) * np.float32(scale / 3),
    )


def rounded(values: np.ndarray, dtype: str) -> np.ndarray:
    return torch.from_numpy(values).to(getattr(torch, dtype)).float().numpy()


def flip(path) -> None:
    """Turns a bit of a feature in a file of the cache."""
    with h5py.File(path) as file:
        offset = file["features"].id.get_offset()
    content = bytearray(path.read_bytes())
    content[offset + 77] ^= 1
    path.write_bytes(content)


@pytest.fixture
def small(monkeypatch):
    """Everything is read from the disk, from several files."""
    monkeypatch.setattr(cache, "IN_MEMORY", 0)
    monkeypatch.setattr(cache, "SHARD", 5)


@pytest.mark.parametrize("dtype", DTYPES)
def test_any_rows_are_those_of_the_whole(small, collection, dtype):
    names = np.random.default_rng(1).permutation(collection.table["picture"].tolist()).tolist()
    names += names[3:6]
    pixels = [encoder().encode([collection.open(name)])[0] for name in names]
    expected = rounded(np.stack(pixels), dtype)
    rows = features(collection, encoder(), names, 16, dtype=dtype)
    assert rows.shape == (26, 16, 3)
    np.testing.assert_array_equal(rows.numpy(), expected)
    for seed in range(5):
        some = np.random.default_rng(seed).integers(0, 26, 9)
        assert rows[some.tolist()].dtype == torch.float32
        np.testing.assert_array_equal(rows[some.tolist()].numpy(), expected[some])
        np.testing.assert_array_equal(rows.take(some)[[4, 4, 0]].numpy(), expected[some[[4, 4, 0]]])
    assert rows[[]].shape == (0, 16, 3)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_file_holds_features_in_their_number_type(collection, files, dtype):
    features(collection, encoder(), tokens=16, dtype=dtype)
    (path,) = files.rglob("*.h5")
    assert path.parent.name.startswith("pixels-16-" if dtype == "float32" else f"pixels-16-{dtype}-")
    with h5py.File(path) as file:
        assert file["features"].dtype == DTYPES[dtype]
        assert file["features"].attrs.get("dtype", "float32") == dtype


def test_a_file_of_float32_lies_where_older_versions_looked_for_it(collection, files):
    features(collection, encoder())
    (path,) = files.rglob("*.h5")
    assert path.parent.name == "pixels-1-5cab4bd3d843"


def test_each_number_type_has_files_of_its_own(small, collection, files):
    for dtype in DTYPES:
        features(collection, encoder(), tokens=16, dtype=dtype)
    assert len(list(files.glob("*/"))) == 3
    for dtype in DTYPES:
        hashes, faults = cache.cached(encoder().identity, 16, dtype)
        assert (len(hashes), faults) == (23, [])
    sizes = {
        dtype: sum(path.stat().st_size for path in files.glob(f"pixels-16-{dtype}*/*")) for dtype in DTYPES
    }
    assert sizes["bfloat16"] == sizes["float16"]


def test_numbers_that_a_type_cannot_hold_are_refused(collection, files):
    with pytest.raises(
        ValueError, match=r"which ends at 65504; features by 'pixels' reach .*: take bfloat16"
    ):
        features(collection, encoder(1e4), dtype="float16")
    assert not list(files.rglob("*.h5"))
    assert np.isfinite(features(collection, encoder(1e4), dtype="bfloat16").numpy()).all()


@pytest.mark.parametrize(("dtype", "size"), [("float32", 4), ("bfloat16", 2), ("float16", 2)])
def test_a_disk_that_is_too_small_is_refused_by_the_bytes_of_the_number_type(
    collection, monkeypatch, dtype, size
):
    needed = 23 * 16 * 3 * size
    free = needed - 1
    monkeypatch.setattr("shutil.disk_usage", lambda where: type("Usage", (), {"free": free})())
    with pytest.raises(OSError, match=f"Writing features of 23 pictures in {dtype} needs "):
        features(collection, encoder(), tokens=16, dtype=dtype)
    free = needed
    assert features(collection, encoder(), tokens=16, dtype=dtype).shape == (23, 16, 3)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_file_with_a_flipped_bit_is_made_again(small, collection, files, dtype, caplog):
    whole = features(collection, encoder(), tokens=16, dtype=dtype).numpy()
    path = sorted(files.rglob("*.h5"))[2]
    flip(path)
    assert len(cache.cached(encoder().identity, 16, dtype)[1]) == 1
    np.testing.assert_array_equal(features(collection, encoder(), tokens=16, dtype=dtype).numpy(), whole)
    assert f"{path} is damaged" in caplog.text
    assert cache.cached(encoder().identity, 16, dtype)[1] == []


def test_bits_of_another_number_type_are_no_features(small, collection, files, caplog):
    features(collection, encoder(), tokens=16, dtype="float16")
    features(collection, encoder(), tokens=16, dtype="bfloat16")
    half, brain = (sorted(files.glob(f"pixels-16-{kind}-*/*.h5")) for kind in ("float16", "bfloat16"))
    shutil.copyfile(half[0], brain[0])
    pixels = encoder().encode([collection.open(name) for name in collection.table["picture"]])
    rows = features(collection, encoder(), tokens=16, dtype="bfloat16")
    np.testing.assert_array_equal(rows.numpy(), rounded(pixels, "bfloat16"))
    assert f"{brain[0]} is damaged" in caplog.text


def test_files_without_a_wanted_picture_are_not_compared(small, collection, files):
    names = collection.table["picture"].tolist()
    features(collection, encoder(), names[:5], 16)
    features(collection, encoder(), names[5:10], 16)
    _, second = sorted(files.rglob("*.h5"))
    flip(second)
    content = second.read_bytes()
    features(collection, encoder(), names[:5], 16)
    assert second.exists()
    features(collection, encoder(), names[3:8], 16)
    assert second.read_bytes() != content


def test_rows_can_be_read_when_the_cache_is_gone(small, collection, files):
    rows = features(collection, encoder(), tokens=16)
    whole = rows.numpy()
    shutil.rmtree(files)
    np.testing.assert_array_equal(rows.numpy(), whole)


def test_only_the_rows_that_are_asked_for_are_read_and_files_are_closed(small, collection, monkeypatch):
    def handles() -> int:
        return len(os.listdir("/proc/self/fd")) if os.path.exists("/proc/self/fd") else 0

    gc.collect()
    before, counts, read = handles(), [], os.preadv
    rows = features(collection, encoder(), tokens=16, dtype="bfloat16")
    monkeypatch.setattr(os, "preadv", lambda *given: counts.append(read(*given)) or counts[-1])
    rows[[3, 17, 3]]
    assert counts == [16 * 3 * 2] * 3
    del rows
    gc.collect()
    assert handles() == before


def test_few_features_are_held_and_many_are_not(collection, monkeypatch):
    size = 23 * 16 * 3 * 4
    for most, shards in ((size, False), (size - 1, True)):
        monkeypatch.setattr(cache, "IN_MEMORY", most)
        source = features(collection, encoder(), tokens=16).source
        assert hasattr(source, "shards") == shards


@pytest.mark.parametrize(
    "shape", [(2, 1, 3), (50, 4, 6), (301, 1, 1280), (40, 49, 32), (7, 256, 33), (129, 9, 257)]
)
@pytest.mark.parametrize("part", [1, 5000, 2**26])
def test_the_standardiser_is_bit_for_bit_that_of_the_whole_array(monkeypatch, shape, part):
    monkeypatch.setattr("taxogen.models.features.rows.PART", part)
    rng = np.random.default_rng(shape)
    values = (rng.normal(size=shape) * rng.lognormal(size=shape[2]) + rng.normal(size=shape[2])).astype(
        np.float32
    )
    values[..., 0] = 1 / 3
    standardiser = PictureStandardizer.fit(FeatureRows.of(values))
    tokens = values.reshape(-1, shape[2])
    mean = tokens.mean(0, dtype=np.float64)
    np.testing.assert_array_equal(_sum(FeatureRows.of(values)), tokens.sum(0, dtype=np.float64))
    squares = ((tokens - mean) ** 2).sum(0)
    np.testing.assert_array_equal(_sum(FeatureRows.of(values), about=mean), squares)
    deviation = tokens.std(0, dtype=np.float64)
    deviation[0] = 1
    np.testing.assert_array_equal(standardiser.mean, mean.astype(np.float32))
    np.testing.assert_array_equal(standardiser.scale, deviation.astype(np.float32))
    rows = FeatureRows(FeatureRows.of(values).source, np.arange(shape[0]), standardiser)
    whole = (values - standardiser.mean) / standardiser.scale
    np.testing.assert_array_equal(rows[[1, 0]].numpy(), whole[[1, 0]])
    np.testing.assert_array_equal(np.concatenate(list(rows.parts())), whole)
