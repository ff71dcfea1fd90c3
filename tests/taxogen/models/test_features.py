import logging
import os
import shutil
import signal
import subprocess
import sys
import time

import h5py
import numpy as np
import pytest
import torch
from PIL import Image

from probing.store import MismatchError
from taxogen.models.encoders import Encoder
from taxogen.models.features import FeatureRows, PictureStandardizer, pool
from taxogen.models.features import cache as module
from taxogen.world import pictures


def features(*arguments, **options):
    """Features in memory."""
    return module.features(*arguments, **options).numpy()


@pytest.fixture(autouse=True)
def cache_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("TAXOPROBE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "features"


def write_picture(path, seed):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (8, 8, 3), dtype=np.uint8)).save(path)


@pytest.fixture
def folder(tmp_path):
    for seed in range(12):
        write_picture(tmp_path / "pictures" / f"leaf{seed % 3}" / f"{seed:02d}.png", seed)
    return tmp_path / "pictures"


class Counting:
    """An encoder of a 2 × 4 grid whose features are the picture's own cells; it notes what it encodes."""

    def __init__(self, **changes):
        self.seen = []
        fields = {
            "name": "counting",
            "revision": "1",
            "preprocessing": "p",
            "licence": "CC0-1.0",
            "grid": (2, 4),
            "width": 3,
            "prepare": lambda picture: np.asarray(picture, dtype=np.float32).transpose(2, 0, 1),
            "forward": self.forward,
        }
        self.encoder = Encoder(**{**fields, **changes})

    def forward(self, pixels):
        self.seen += [image.sum() for image in pixels]
        cells = pixels.reshape(len(pixels), 3, 2, 4, 4, 2).mean((3, 5))
        return cells.reshape(len(pixels), 3, 8).transpose(0, 2, 1)


def expected(collection, names, counting, tokens):
    return np.concatenate(
        [pool(counting.encoder.encode([collection.open(name)]), (2, 4), tokens) for name in names]
    )


@pytest.mark.parametrize("tokens", [1, 4, 8])
@pytest.mark.parametrize("batch", [1, 5])
def test_features_come_in_the_order_asked_for(folder, tokens, batch):
    collection, counting = pictures.load(folder), Counting(batch=batch)
    names = list(np.random.default_rng(1).permutation(list(collection.table["picture"])))
    names += names[:3]
    values = features(collection, counting.encoder, names, tokens)
    assert (values.dtype, values.shape) == (np.float32, (15, tokens, 3))
    np.testing.assert_allclose(values, expected(collection, names, Counting(), tokens), rtol=1e-6)


def test_without_names_it_is_the_whole_table(folder):
    collection = pictures.load(folder)
    names = list(collection.table["picture"])
    np.testing.assert_array_equal(
        features(collection, Counting().encoder), features(collection, Counting().encoder, names)
    )


def test_nothing_is_computed_twice_and_the_cache_gives_the_same_bits(folder):
    collection, counting = pictures.load(folder), Counting()
    names = list(collection.table["picture"])
    features(collection, counting.encoder, names[:5])
    first = features(collection, counting.encoder, names)
    assert len(counting.seen) == 12
    np.testing.assert_array_equal(first, features(collection, counting.encoder, names))
    assert len(counting.seen) == 12


def test_a_changed_picture_invalidates_only_itself(folder):
    counting = Counting()
    before = features(pictures.load(folder), counting.encoder)
    write_picture(folder / "leaf1" / "04.png", seed=99)
    collection = pictures.load(folder)
    after = features(collection, counting.encoder)
    changed = (collection.table["picture"].str.endswith("04.png")).to_numpy()
    assert len(counting.seen) == 13
    np.testing.assert_array_equal(before[~changed], after[~changed])
    assert not np.allclose(before[changed], after[changed])


@pytest.mark.parametrize("change", [{"name": "b"}, {"revision": "2"}, {"preprocessing": "q"}])
def test_another_encoder_revision_or_preprocessing_is_computed_anew(folder, change):
    collection = pictures.load(folder)
    features(collection, Counting().encoder)
    other = Counting(**change)
    features(collection, other.encoder)
    assert len(other.seen) == 12


def test_a_failing_picture_stops_with_its_own_error_and_leaves_no_half_file(folder, cache_folder):
    collection = pictures.load(folder)
    name = collection.table["picture"][7]
    (folder / name).write_bytes(b"no picture")
    with pytest.raises(ValueError, match=name.rsplit("/")[-1]):
        features(collection, Counting().encoder)
    assert not [path for path in cache_folder.rglob("*") if path.suffix in (".part", ".h5")]


def test_an_interrupted_computation_goes_on_where_it_was(folder, cache_folder, monkeypatch):
    monkeypatch.setattr(module, "SHARD", 5)
    collection, counting = pictures.load(folder), Counting()

    def dies(pixels):
        if len(counting.seen) >= 8:
            raise KeyboardInterrupt
        return counting.forward(pixels)

    with pytest.raises(KeyboardInterrupt):
        features(collection, Counting(forward=dies).encoder)
    assert len(list(cache_folder.rglob("*.h5"))) == 1
    again = Counting()
    values = features(collection, again.encoder)
    assert len(again.seen) == 7
    names = list(collection.table["picture"])
    np.testing.assert_array_equal(values, expected(collection, names, Counting(), 1))


KILLED = """
import sys, time
import numpy as np
from taxogen.models.features import cache as module
from taxogen.world import pictures
sys.path.insert(0, sys.argv[2])
from test_features import Counting
module.SHARD = 3
counting = Counting()
def slow(pixels):
    time.sleep(0.15)
    return counting.forward(pixels)
module.features(pictures.load(sys.argv[1]), Counting(forward=slow).encoder)
"""


def test_a_killed_process_leaves_a_cache_that_the_next_one_completes(folder, cache_folder):
    here = os.path.dirname(__file__)
    worker = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(folder), here], env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    deadline = time.monotonic() + 60
    while not list(cache_folder.rglob("*.h5")) and time.monotonic() < deadline:
        time.sleep(0.02)
    worker.send_signal(signal.SIGKILL)
    worker.wait()
    counting, collection = Counting(), pictures.load(folder)
    values = features(collection, counting.encoder)
    assert 0 < len(counting.seen) <= 9
    np.testing.assert_array_equal(
        values, expected(collection, list(collection.table["picture"]), Counting(), 1)
    )


def test_a_shard_reads_like_documentation(folder, cache_folder):
    features(pictures.load(folder), Counting().encoder, tokens=4)
    (path,) = cache_folder.rglob("*.h5")
    with h5py.File(path) as file:
        assert set(file) == {"content_hash", "features"}
        assert np.asarray(file["features"]).shape == (12, 4, 3)
        assert file["features"].attrs["axes"] == "picture, token (row by row), width"
        assert {
            key: file.attrs[key] for key in ("name", "revision", "preprocessing", "licence", "tokens")
        } == {
            "name": "counting",
            "revision": "1",
            "preprocessing": "p",
            "licence": "CC0-1.0",
            "tokens": 4,
        }


def test_the_callers_threads_stay_as_they_were(folder):
    before = torch.get_num_threads()
    features(pictures.load(folder), Counting().encoder)
    assert torch.get_num_threads() == before


def test_progress_is_shown_while_computing_and_not_otherwise(folder, capsys):
    collection = pictures.load(folder)
    features(collection, Counting().encoder)
    shown = capsys.readouterr()
    assert "counting features" in shown.err
    assert "12/12" in shown.err
    assert shown.out == ""
    features(collection, Counting().encoder)
    assert capsys.readouterr().err == ""


def test_an_unknown_picture_is_refused_before_the_encoder_is_loaded(folder):
    with pytest.raises(KeyError, match=r"2 pictures are not in '.*', first 'a/b\.png'; see \.table"):
        features(pictures.load(folder), "no such encoder", ["z/z.png", "a/b.png"])


@pytest.mark.parametrize("tokens", [0, 2, 3, 9, 16])
def test_a_number_of_tokens_that_the_grid_does_not_give_is_refused(folder, tokens):
    message = rf"tokens={tokens} was asked for; a grid of 2 × 4 gives one of 1, 4, 8"
    with pytest.raises(ValueError, match=message):
        features(pictures.load(folder), Counting().encoder, tokens=tokens)


def test_too_little_disk_is_refused_before_anything_is_encoded(folder, monkeypatch):
    counting = Counting()
    monkeypatch.setattr("shutil.disk_usage", lambda where: type("Usage", (), {"free": 100})())
    with pytest.raises(OSError, match=r"features of 12 pictures in float32 needs .* Free some space"):
        features(pictures.load(folder), counting.encoder)
    assert counting.seen == []


@pytest.mark.parametrize("side", [1, 2, 3, 4, 6, 7, 9])
@pytest.mark.parametrize("grid", [(7, 7), (9, 9), (16, 16)])
def test_pooling_equals_torchs_adaptive_average(grid, side):
    if side > grid[0]:
        pytest.skip("a finer grid than the encoder's is refused")
    values = np.random.default_rng(0).normal(size=(2, grid[0] * grid[1], 5)).astype(np.float32)
    maps = torch.from_numpy(values).transpose(1, 2).reshape(2, 5, *grid)
    reference = torch.nn.functional.adaptive_avg_pool2d(maps, side).flatten(2).transpose(1, 2).numpy()
    np.testing.assert_allclose(pool(values, grid, side * side), reference, rtol=1e-5, atol=1e-6)


def test_all_cells_of_a_grid_are_left_as_they_are():
    values = np.random.default_rng(0).normal(size=(2, 12, 5)).astype(np.float32)
    np.testing.assert_array_equal(pool(values, (3, 4), 12), values)


def test_standardised_training_features_have_mean_0_and_deviation_1():
    training = np.random.default_rng(0).normal(3, 7, size=(50, 4, 6)).astype(np.float32)
    values = PictureStandardizer.fit(FeatureRows.of(training))(training)
    np.testing.assert_allclose(values.mean((0, 1)), 0, atol=1e-5)
    np.testing.assert_allclose(values.std((0, 1)), 1, atol=1e-5)


def test_test_pictures_do_not_touch_the_standardiser():
    generator = np.random.default_rng(0)
    training = generator.normal(3, 7, size=(50, 1, 6)).astype(np.float32)
    standardiser = PictureStandardizer.fit(FeatureRows.of(training))
    shifted = standardiser(training + 7 * standardiser.scale)
    np.testing.assert_allclose(shifted.mean((0, 1)), 7, atol=1e-4)


def test_a_constant_feature_becomes_zero_and_not_noise():
    training = np.random.default_rng(0).normal(size=(50, 1, 2)).astype(np.float32)
    training[..., 1] = 1 / 3
    values = PictureStandardizer.fit(FeatureRows.of(training))(training)
    np.testing.assert_allclose(values[..., 1], 0, atol=1e-6)


def test_a_standardiser_needs_training_pictures():
    with pytest.raises(ValueError, match="needs at least 2 training pictures; 1 given"):
        PictureStandardizer.fit(FeatureRows.of(np.zeros((1, 1, 3), np.float32)))


def shards_of(cache_folder):
    return sorted(cache_folder.rglob("*.h5"))


def flip(path, place, bit=0):
    raw = bytearray(path.read_bytes())
    raw[place % len(raw)] ^= 1 << bit
    path.write_bytes(raw)


def without_checksums(path):
    with h5py.File(path, "r+") as file:
        for name in ("content_hash", "features"):
            del file[name].attrs["checksum"]


def of_another_width(path):
    with h5py.File(path, "r+") as file:
        del file["features"]
        file["features"] = np.zeros((5, 1, 2), np.float32)
        file["features"].attrs["checksum"] = np.uint64(0)


DAMAGE = {
    "cut": lambda path: path.write_bytes(path.read_bytes()[:700]),
    "empty": lambda path: path.write_bytes(b""),
    "no HDF5": lambda path: path.write_bytes(b"no" * 900),
    "older": without_checksums,
    "another width": of_another_width,
    "a folder": lambda path: (path.unlink(), path.mkdir()),
}


@pytest.mark.parametrize("kind", list(DAMAGE))
def test_a_damaged_shard_is_mended(folder, cache_folder, monkeypatch, caplog, kind):
    monkeypatch.setattr(module, "SHARD", 5)
    collection = pictures.load(folder)
    whole = features(collection, Counting().encoder)
    damaged = shards_of(cache_folder)[1]
    others = {path: path.read_bytes() for path in shards_of(cache_folder) if path != damaged}
    assert len(others) == 2
    DAMAGE[kind](damaged)
    counting = Counting()
    with caplog.at_level(logging.WARNING, "taxogen"):
        np.testing.assert_array_equal(features(collection, counting.encoder), whole)
    assert len(counting.seen) == 5
    (line,) = caplog.messages
    assert line.startswith(f"{damaged} is damaged or has no checksums")
    assert len(shards_of(cache_folder)) == 3
    assert {path: path.read_bytes() for path in others} == others
    again = Counting()
    np.testing.assert_array_equal(features(collection, again.encoder), whole)
    assert again.seen == []


def test_no_flipped_bit_changes_a_feature(folder, cache_folder):
    collection, generator = pictures.load(folder), np.random.default_rng(3)
    whole = features(collection, Counting().encoder)
    (path,) = shards_of(cache_folder)
    raw = path.read_bytes()
    mended = 0
    for place in generator.integers(0, len(raw), 120).tolist():
        path.write_bytes(raw)
        flip(path, place, int(generator.integers(8)))
        counting = Counting()
        np.testing.assert_array_equal(features(collection, counting.encoder), whole)
        mended += bool(counting.seen)
        for other in shards_of(cache_folder):
            other.unlink()
    assert mended > 10


def test_cached_features_need_no_encoder_and_no_picture(folder):
    collection, encoder = pictures.load(folder), Counting().encoder
    whole = features(collection, encoder, tokens=4)
    recorded = pictures.of_table(folder, collection.table)
    shutil.rmtree(folder)
    np.testing.assert_array_equal(features(recorded, "counting", tokens=4, expected=encoder.identity), whole)


def test_the_identity_is_plain_data():
    assert Counting().encoder.identity == {
        "name": "counting",
        "revision": "1",
        "preprocessing": "p",
        "grid": [2, 4],
        "width": 3,
    }


def test_only_what_is_missing_is_opened(folder, monkeypatch):
    collection, encoder = pictures.load(folder), Counting().encoder
    names = list(collection.table["picture"])
    features(collection, encoder, names[:9])
    for name in names[:9]:
        (folder / name).write_bytes(b"changed")
    other = Counting()
    monkeypatch.setattr("taxogen.models.encoders.load", lambda name, device: other.encoder)
    features(collection, "counting", names, expected=encoder.identity)
    assert len(other.seen) == 3


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"revision": "2"}, "(revision: recorded '1', loaded '2')"),
        (
            {"preprocessing": "q", "width": 4},
            "(preprocessing: recorded 'p', loaded 'q'; width: recorded 3, loaded 4)",
        ),
        ({"grid": (4, 2)}, "(grid: recorded [2, 4], loaded [4, 2])"),
    ],
)
def test_an_encoder_that_is_not_the_recorded_one_is_refused(folder, monkeypatch, change, said):
    other = Counting(**change)
    monkeypatch.setattr("taxogen.models.encoders.load", lambda name, device: other.encoder)
    for encoder in ("counting", other.encoder):
        with pytest.raises(MismatchError) as refused:
            features(pictures.load(folder), encoder, expected=Counting().encoder.identity)
        assert said in str(refused.value)
    assert other.seen == []


def test_another_name_or_half_an_identity_is_refused_before_the_encoder_is_loaded(folder):
    identity = Counting().encoder.identity
    with pytest.raises(MismatchError, match="name: recorded 'counting', loaded 'no such encoder'"):
        features(pictures.load(folder), "no such encoder", expected=identity)
    with pytest.raises(MismatchError, match="lacks revision, width"):
        features(
            pictures.load(folder),
            "counting",
            expected={key: identity[key] for key in ("name", "grid", "preprocessing")},
        )


def test_pictures_that_changed_are_refused_before_anything_is_encoded(folder):
    collection, counting = pictures.load(folder), Counting()
    names = list(collection.table["picture"])
    for seed, name in enumerate(names[2:9]):
        write_picture(folder / name, 100 + seed)
    with pytest.raises(MismatchError) as refused:
        features(collection, counting.encoder)
    assert f"7 changed ({', '.join(names[2:7])}, …): restore them" in str(refused.value)
    (folder / names[0]).unlink()
    with pytest.raises(FileNotFoundError) as gone:
        features(collection, counting.encoder)
    assert f"1 missing ({names[0]}) and 7 changed" in str(gone.value)
    shutil.rmtree(folder)
    with pytest.raises(FileNotFoundError, match="12 missing"):
        features(collection, counting.encoder)
    assert counting.seen == []


def test_a_picture_that_changes_while_others_are_encoded_is_refused(folder):
    collection, counting = pictures.load(folder), Counting()
    last = collection.table["picture"].iloc[-1]

    def changes(pixels):
        write_picture(folder / last, 99)
        return counting.forward(pixels)

    with pytest.raises(MismatchError, match=f"{last} of .* has changed since its content hash"):
        features(collection, Counting(forward=changes).encoder)


def test_the_cache_tells_what_it_holds_and_which_file_is_damaged(folder, cache_folder):
    counting, collection = Counting(), pictures.load(folder)
    names = collection.table["picture"].tolist()
    features(collection, counting.encoder, names[:7], tokens=2 * 4)
    assert module.cached(counting.encoder.identity, 8) == (set(collection.table["content_hash"][:7]), [])
    assert module.cached(counting.encoder.identity, 1) == (set(), [])
    (path,) = cache_folder.glob("*/*.h5")
    with h5py.File(path) as stored:
        offset = stored["features"].id.get_offset()
    content = bytearray(path.read_bytes())
    content[offset + 100] ^= 8
    path.write_bytes(bytes(content))
    hashes, (fault,) = module.cached(counting.encoder.identity, 8)
    assert not hashes
    assert str(path) in fault
    assert path.exists()
