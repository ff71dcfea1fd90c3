import hashlib
import io
import os
import pickle
import re
import shutil
import struct
import zipfile
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from taxogen.world import picture_files, pictures


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path_factory):
    monkeypatch.setenv("TAXOPROBE_CACHE", str(tmp_path_factory.mktemp("cache")))


def colour(red: int, size: tuple[int, int] = (8, 6)) -> Image.Image:
    return Image.new("RGB", size, (red, 100, 50))


def encoded(image: Image.Image, form: str = "PNG", **rest) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **rest)
    return buffer.getvalue()


@pytest.fixture
def folder(tmp_path):
    """Two leaves of two pictures, four formats."""
    root = tmp_path / "mine"
    for number, name in enumerate(("crow/a.jpg", "crow/B.WEBP", "night owl/x.png", "night owl/y.jpeg")):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        colour(number * 40).save(root / name)
    return root


class TestFolder:
    def test_sorted_table(self, folder):
        found = pictures.load(folder)
        assert found.table["picture"].tolist() == [
            "crow/B.WEBP",
            "crow/a.jpg",
            "night owl/x.png",
            "night owl/y.jpeg",
        ]
        assert found.table["leaf"].tolist() == ["crow", "crow", "night owl", "night owl"]
        assert tuple(found.table.columns) == pictures.COLUMNS
        assert set(found.table["source"]) == {"mine"}
        assert found.leaves == ("crow", "night owl")

    def test_hashes_are_of_the_bytes(self, folder):
        found = pictures.load(folder)
        for picture, digest in zip(found.table["picture"], found.table["content_hash"]):
            assert digest == hashlib.sha256((folder / picture).read_bytes()).hexdigest()
            assert found.read(picture) == (folder / picture).read_bytes()

    def test_open(self, folder):
        image = pictures.load(folder).open("night owl/x.png")
        assert image.mode == "RGB"
        np.testing.assert_array_equal(np.asarray(image), np.asarray(colour(80)))

    def test_things_layout(self, folder, tmp_path):
        shutil.move(folder, tmp_path / "THINGS" / "images")
        (tmp_path / "THINGS" / "Metadata").mkdir()
        found = pictures.load(tmp_path / "THINGS")
        assert found.leaves == ("crow", "night owl")
        assert set(found.table["source"]) == {"things"}
        assert found.open("crow/a.jpg").size == (8, 6)

    def test_a_leaf_may_be_called_images(self, folder):
        shutil.copytree(folder / "crow", folder / "images")
        assert pictures.load(folder).leaves == ("crow", "images", "night owl")

    def test_other_and_hidden_files_are_no_pictures(self, folder):
        (folder / "crow" / "notes.txt").write_text("x")
        (folder / "crow" / ".a.png").write_text("x")
        (folder / ".git").mkdir()
        (folder / "README").write_text("x")
        assert len(pictures.load(folder).table) == 4

    def test_order_of_the_directory_does_not_matter(self, folder, monkeypatch):
        first = pictures.load(folder).table
        plain = os.scandir

        def reversed_listing(path):
            return iter(sorted(plain(path), key=lambda entry: entry.name, reverse=True))

        monkeypatch.setattr(
            type(folder), "iterdir", lambda path: (path / e.name for e in reversed_listing(path))
        )
        pd.testing.assert_frame_equal(pictures.load(folder).table, first)

    def test_second_load_does_not_decode(self, folder, monkeypatch):
        first = pictures.load(folder).table
        monkeypatch.setattr(picture_files, "_verify", lambda *_: pytest.fail("decoded again"))
        pd.testing.assert_frame_equal(pictures.load(folder).table, first)

    def test_a_changed_file_is_noticed(self, folder):
        first = pictures.load(folder).table.set_index("picture")["content_hash"]
        colour(200, (9, 9)).save(folder / "crow" / "a.jpg")
        second = pictures.load(folder).table.set_index("picture")["content_hash"]
        assert (first != second).to_dict() == {name: name == "crow/a.jpg" for name in first.index}

    def test_duplicates(self, folder):
        assert pictures.load(folder).duplicates().empty
        shutil.copy(folder / "crow" / "a.jpg", folder / "night owl" / "copy.jpg")
        found = pictures.load(folder).duplicates()
        assert found["picture"].tolist() == ["crow/a.jpg", "night owl/copy.jpg"]

    def test_select(self, folder):
        found = pictures.load(folder)
        assert found.select(["crow"]).table["picture"].tolist() == ["crow/B.WEBP", "crow/a.jpg"]
        with pytest.raises(KeyError, match=r"No pictures of dodo, emu in .*: \.leaves names its 2"):
            found.select(["emu", "crow", "dodo"])


class TestRefusals:
    def test_every_unreadable_picture_is_listed(self, folder):
        (folder / "crow" / "broken.png").write_bytes(b"no picture")
        whole = encoded(colour(9, (64, 64)), "JPEG")
        (folder / "night owl" / "cut.jpg").write_bytes(whole[: len(whole) // 2])
        (folder / "night owl" / "empty.webp").write_bytes(b"")
        with pytest.raises(
            ValueError, match=r"3 of 7 pictures in .* cannot be read; replace or remove them:"
        ) as caught:
            pictures.load(folder)
        lines = str(caught.value).splitlines()[1:]
        assert [line.split(" cannot")[0].strip() for line in lines] == [
            "crow/broken.png",
            "night owl/cut.jpg",
            "night owl/empty.webp",
        ]
        assert "no known format" in lines[0]
        assert "truncated" in lines[1].lower()

    def test_leaves_with_too_few(self, folder):
        (folder / "void").mkdir()
        (folder / "lone").mkdir()
        colour(1).save(folder / "lone" / "a.png")
        with pytest.raises(
            ValueError, match=r"with fewer than 2 pictures: lone \(1\), void \(0\)\. A leaf needs"
        ):
            pictures.load(folder)

    def test_no_leaves(self, tmp_path):
        with pytest.raises(ValueError, match=r"holds no leaf folders: put pictures into <leaf>/<file>\.jpg"):
            pictures.load(tmp_path)

    def test_no_folder(self, tmp_path):
        with pytest.raises(
            FileNotFoundError, match=r"neither bundled \(pictograms\) nor a folder\. Give a folder of"
        ):
            pictures.load(tmp_path / "none")

    def test_unknown_picture(self, folder):
        with pytest.raises(KeyError, match=r"No picture '\.\./secret' among the 4 of .*: see \.table"):
            pictures.load(folder).open("../secret")

    def test_damaged_bundle(self, monkeypatch):
        whole = zipfile.ZipFile(io.BytesIO(pictures._data("pictograms.zip")))
        names = whole.namelist()
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            for name in names[1:]:
                archive.writestr(name, whole.read(name))
        monkeypatch.setattr(pictures, "_bundled", lambda _: zipfile.ZipFile(buffer))
        with pytest.raises(
            ValueError, match=rf"1 bundled pictures are missing or altered \(as {names[0]}\): reinstall"
        ):
            pictures.load("pictograms")


class TestDecode:
    def test_exif_orientation(self):
        image = colour(10, (8, 6))
        image.putpixel((0, 0), (255, 255, 255))
        exif = Image.Exif()
        exif[0x0112] = 6
        upright = picture_files.decode(encoded(image, "PNG", exif=exif))
        assert upright.size == (6, 8)
        assert upright.getpixel((5, 0)) == (255, 255, 255)

    def test_alpha_over_white(self):
        image = Image.new("RGBA", (2, 1), (0, 0, 0, 0))
        image.putpixel((1, 0), (0, 0, 0, 128))
        assert picture_files.decode(encoded(image)).getpixel((0, 0)) == (255, 255, 255)
        assert picture_files.decode(encoded(image)).getpixel((1, 0)) == (127, 127, 127)

    @pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK"])
    def test_every_mode_becomes_rgb(self, mode):
        data = encoded(colour(255).convert(mode), "TIFF" if mode == "CMYK" else "PNG")
        assert picture_files.decode(data).mode == "RGB"

    def test_palette_with_transparency(self):
        image = Image.new("P", (2, 1), 0)
        image.putpalette([10, 20, 30, 40, 50, 60])
        image.putpixel((1, 0), 1)
        opened = picture_files.decode(encoded(image, "PNG", transparency=0))
        assert [opened.getpixel((x, 0)) for x in (0, 1)] == [(255, 255, 255), (40, 50, 60)]

    def test_sixteen_bit_grey_is_scaled_not_clipped(self):
        values = np.array([[0, 300, 32768, 65535]], dtype=np.uint16)
        opened = picture_files.decode(encoded(Image.fromarray(values)))
        assert np.asarray(opened)[0, :, 0].tolist() == [0, 1, 128, 255]

    @pytest.mark.parametrize("side", [8_000, 12_000, 40_000])
    def test_bombs_are_refused_undecoded(self, side):
        header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
        chunk = b"IHDR" + header
        data = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))
        rows = zlib.compress(b"")
        idat = b"IDAT" + rows
        data += struct.pack(">I", len(rows)) + idat + struct.pack(">I", zlib.crc32(idat))
        with pytest.raises(
            ValueError, match=r"bomb\.png cannot be read as a picture: .*(more than 50,000,000|limit)"
        ):
            picture_files.decode(data, "bomb.png")


@pytest.fixture(scope="module")
def bundled():
    return pictures.load("pictograms")


class TestPictograms:
    def test_table(self, bundled):
        table = bundled.table
        assert table["picture"].is_unique
        assert table["picture"].is_monotonic_increasing
        assert bundled.duplicates().empty
        assert (table["picture"].str.split("/").str[0].str.replace("_", " ") == table["leaf"]).all()

    def test_every_leaf_has_five_pictures_in_three_styles(self, bundled):
        groups = bundled.table.groupby("leaf")
        assert groups.size().min() >= 5
        assert groups["style_group"].nunique().min() >= 3

    def test_nothing_dropped_is_there_and_every_drop_has_a_reason(self, bundled):
        dropped = pictures._read_csv("dropped.csv")
        assert not set(dropped["picture"]) & set(bundled.table["picture"])
        assert dropped["picture"].is_unique
        assert (dropped["reason"].str.len() > 3).all()

    def test_credits_name_every_source_with_its_licence(self, bundled):
        credits = pictures.credits()
        given = set(map(tuple, credits[["source", "licence"]].to_numpy()))
        assert set(map(tuple, bundled.table[["source", "licence"]].to_numpy())) == given
        assert (credits["credit"].str.len() > 3).all()

    def test_notice_repeats_the_credits(self):
        notice = (Path(__file__).parents[3] / "NOTICE").read_text()
        for row in pictures.credits().itertuples():
            assert re.search(
                rf"^  {row.source} +{row.licence} +{re.escape(str(row.credit))}$", notice, re.MULTILINE
            )

    def test_archive_is_small_and_stored(self):
        data = pictures._data("pictograms.zip")
        assert len(data) < 12e6
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            assert {entry.compress_type for entry in archive.infolist()} == {zipfile.ZIP_STORED}
            assert archive.namelist() == sorted(archive.namelist())

    def test_open_in_threads_and_after_pickling(self, bundled):
        chosen = bundled.table["picture"].tolist()[::40]
        again = pickle.loads(pickle.dumps(bundled))
        with ThreadPoolExecutor(4) as pool:
            opened = list(pool.map(again.open, chosen))
        assert all(image.mode == "RGB" and max(image.size) == 192 for image in opened)
        for name, image in zip(chosen, opened):
            np.testing.assert_array_equal(np.asarray(image), np.asarray(bundled.open(name)))
