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

from probing.store import MismatchError
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


@pytest.fixture(scope="module")
def bundled():
    return pictures.load("pictograms")


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
        assert "it is no JPEG, PNG or WEBP" in lines[0]
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

    @pytest.mark.parametrize("kind", ["file", "folder", "loop", "leaf"])
    def test_links_that_lead_nowhere_are_named(self, folder, kind):
        name = "raven" if kind == "leaf" else "crow/z.png"
        target = {"loop": folder / name}.get(kind, folder / "gone")
        (folder / name).mkdir() if kind == "folder" else (folder / name).symlink_to(target)
        with pytest.raises(ValueError, match=rf"1 entries of .* lead nowhere: {name}\. Restore or remove"):
            pictures.load(folder)

    @pytest.mark.parametrize("odd", ["\n", "\x1b[31m", "\x7f", "\u2028", "\x85"])
    def test_names_that_are_more_than_a_line_are_refused_in_one(self, folder, odd):
        colour(1).save(folder / "crow" / f"a{odd}b.png")
        with pytest.raises(
            ValueError, match=r"1 pictures of .* control characters in their names: crow/a\\"
        ) as e:
            pictures.load(folder)
        assert len(str(e.value).splitlines()) == 1

    def test_links_to_pictures_and_to_leaves_are_followed(self, folder, tmp_path):
        shutil.move(folder / "crow", tmp_path / "elsewhere")
        (folder / "crow").symlink_to(tmp_path / "elsewhere")
        (folder / "night owl" / "z.png").symlink_to(folder / "night owl" / "x.png")
        assert len(pictures.load(folder).table) == 5


LEAVING = [
    "../secret/a.png",
    "/etc/a.png",
    "crow/../../a.png",
    "a.png",
    "crow/sub/a.png",
    "crow/..",
    "/a.png",
]
LEAVING += ["crow//a.png", "crow/", "", "..", "crow/a\n.png", "crow/a\0.png", "../a.png", "./a.png"]


class TestRecorded:
    """A collection over a table that was recorded earlier."""

    def test_it_is_the_collection_that_was_loaded(self, folder):
        loaded = pictures.load(folder)
        again = pictures.of_table(folder, loaded.table.sample(frac=1, random_state=0).assign(split="train"))
        pd.testing.assert_frame_equal(again.table, loaded.table)
        assert again.read("crow/a.jpg") == loaded.read("crow/a.jpg")

    def test_the_layout_of_things_and_the_bundled_ones(self, folder, tmp_path, bundled):
        shutil.move(folder, tmp_path / "THINGS" / "images")
        table = pictures.load(tmp_path / "THINGS").table
        assert pictures.of_table(tmp_path / "THINGS", table).open("crow/a.jpg").size == (8, 6)
        some = pictures.of_table("pictograms", bundled.table[3:5])
        assert some.read(some.table["picture"][1]) == bundled.read(bundled.table["picture"][4])

    def test_nothing_is_read_before_it_is_asked_for(self, folder):
        table = pictures.load(folder).table
        shutil.rmtree(folder)
        recorded = pictures.of_table(folder, table)
        assert recorded.leaves == ("crow", "night owl")
        with pytest.raises(FileNotFoundError, match=r"a\.jpg"):
            recorded.read("crow/a.jpg")

    @pytest.mark.parametrize("name", LEAVING)
    def test_names_that_leave_the_folder_are_refused(self, folder, name):
        table = pictures.load(folder).table
        table.loc[1, "picture"] = name
        with pytest.raises(ValueError, match=r"names each once as <leaf>/<file>; found .* and 0 more"):
            pictures.of_table(folder, table)

    def test_tables_that_are_none_are_refused(self, folder):
        table = pictures.load(folder).table
        with pytest.raises(ValueError, match="without leaf, licence; found"):
            pictures.of_table(folder, table.drop(columns=["leaf", "licence"]))
        with pytest.raises(ValueError, match="other than text in licence"):
            pictures.of_table(folder, table.assign(licence=float("nan")))
        with pytest.raises(ValueError, match=r"found 'crow/a\.jpg' and 0 more"):
            pictures.of_table(folder, pd.concat([table, table[1:2]]))

    def test_what_changed_is_told(self, folder):
        table = pictures.load(folder).table
        assert pictures.compare(table, folder) == {"missing": [], "changed": [], "new": []}
        (folder / "crow" / "a.jpg").unlink()
        times = (folder / "night owl" / "x.png").stat()
        raw = bytearray((folder / "night owl" / "x.png").read_bytes())
        raw[-5] ^= 1
        (folder / "night owl" / "x.png").write_bytes(raw)
        os.utime(folder / "night owl" / "x.png", ns=(times.st_atime_ns, times.st_mtime_ns))
        colour(7).save(folder / "night owl" / "z.png")
        (folder / "lone").mkdir()
        colour(7).save(folder / "lone" / "a.png")
        assert pictures.compare(table, folder) == {
            "missing": ["crow/a.jpg"],
            "changed": ["night owl/x.png"],
            "new": ["lone/a.png", "night owl/z.png"],
        }
        with pytest.raises(MismatchError, match=r"night owl/x\.png of .* has changed since its content hash"):
            pictures.of_table(folder, table).open("night owl/x.png")
        shutil.rmtree(folder)
        assert pictures.compare(table, folder)["missing"] == table["picture"].tolist()

    def test_bundled_pictures_are_compared_too(self, bundled):
        table = bundled.table[5:].reset_index(drop=True)
        table.loc[0, "content_hash"] = "0" * 64
        other = table[:1].assign(picture="crow/none.webp")
        assert pictures.compare(pd.concat([table, other]), "pictograms") == {
            "missing": ["crow/none.webp"],
            "changed": [table["picture"][0]],
            "new": bundled.table["picture"][:5].tolist(),
        }

    def test_a_file_of_the_same_size_and_date_but_other_bytes_is_hashed_anew(self, folder):
        first = pictures.load(folder).table["content_hash"]
        path = folder / "night owl" / "x.png"
        times = path.stat()
        other = encoded(colour(81))
        assert len(other) == times.st_size
        path.write_bytes(other)
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
        assert (pictures.load(folder).table["content_hash"] != first).tolist() == [False, False, True, False]

    def test_damaged_cached_hashes_are_made_again(self, folder):
        first = pictures.load(folder).table
        (path,) = Path(os.environ["TAXOPROBE_CACHE"]).glob("pictures/*.txt")
        whole = path.read_bytes()
        for place in (0, 70, len(whole) - 1):
            raw = bytearray(whole)
            raw[place] ^= 1
            path.write_bytes(raw)
            pd.testing.assert_frame_equal(pictures.load(folder).table, first)
        path.write_bytes(b"")
        pd.testing.assert_frame_equal(pictures.load(folder).table, first)
        assert path.read_bytes() == whole


def png(width: int, depth: int, kind: int, row: bytes, transparent: bytes) -> bytes:
    """A PNG of one row whose transparent value is given, as optimisers write it."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    size = struct.pack(">IIBBBBB", width, 1, depth, kind, 0, 0, 0)
    parts = [(b"IHDR", size), (b"tRNS", transparent), (b"IDAT", zlib.compress(b"\0" + row)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


class TestDecode:
    @pytest.mark.parametrize(
        "form", ["EPS", "PPM", "TIFF", "GIF", "BMP", "PDF", "ICO", "TGA", "JPEG2000", "DDS"]
    )
    def test_other_formats_reach_no_decoder_whatever_their_name(self, form, monkeypatch):
        data = encoded(colour(9, (32, 32)), form)
        monkeypatch.setattr("subprocess.Popen", lambda *_, **__: pytest.fail("a program was started"))
        with pytest.raises(
            ValueError, match=r"^x\.png cannot be read as a picture: it is no JPEG, PNG or WEBP"
        ):
            picture_files.decode(data, "x.png")

    @pytest.mark.parametrize(
        "data", [b"8BPS\0\1" + bytes(40), b"<svg xmlns='http://www.w3.org/2000/svg'/>", b""]
    )
    def test_psd_svg_and_nothing_are_refused_too(self, data):
        with pytest.raises(ValueError, match=r"x\.png .* no JPEG, PNG or WEBP"):
            picture_files.decode(data, "x.png")

    @pytest.mark.parametrize("form", ["PNG", "WEBP", "MPO"])
    def test_the_first_picture_of_several_is_shown(self, form):
        rest = [colour(0), colour(90)]
        shown = picture_files.decode(encoded(colour(200), form, save_all=True, append_images=rest))
        assert np.abs(np.asarray(shown)[0, 0].astype(int) - (200, 100, 50)).max() < 9

    @pytest.mark.parametrize("red", [0, 40, 200, 255])
    def test_cmyk_has_the_colours_that_it_was_made_of(self, red):
        data = encoded(colour(red, (16, 16)).convert("CMYK"), "JPEG", quality=100)
        assert np.abs(np.asarray(picture_files.decode(data))[3, 3].astype(int) - (red, 100, 50)).max() < 5

    @pytest.mark.parametrize(
        ("data", "red"),
        [
            (png(4, 2, 0, bytes([0b00011011]), b"\0\1"), [0, 255, 170, 255]),
            (png(2, 4, 0, bytes([0x35]), b"\0\5"), [51, 255]),
            (png(2, 8, 0, bytes([35, 70]), b"\0\x23"), [255, 70]),
            (png(2, 16, 0, struct.pack(">2H", 0x1234, 0x8000), b"\x12\x34"), [255, 128]),
            (png(2, 8, 2, bytes([1, 2, 3, 4, 5, 6]), b"\0\1\0\2\0\3"), [255, 4]),
            (
                png(2, 16, 2, struct.pack(">6H", 256, 512, 768, 1024, 0, 0), bytes([1, 0, 2, 0, 3, 0])),
                [255, 4],
            ),
        ],
        ids=["grey 2", "grey 4", "grey 8", "grey 16", "RGB 8", "RGB 16"],
    )
    def test_a_transparent_value_is_shown_white_at_every_depth(self, data, red):
        assert np.asarray(picture_files.decode(data))[0, :, 0].tolist() == red

    @pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
    def test_changed_bytes_give_a_picture_or_one_line(self, form):
        generator = np.random.default_rng(0)
        noise = Image.fromarray(generator.integers(0, 255, (24, 31, 3), dtype=np.uint8))
        whole = np.frombuffer(encoded(noise, form), np.uint8)
        said = []
        for _ in range(300):
            data = whole.copy()
            data[generator.integers(0, len(data), 3)] = generator.integers(0, 256, 3)
            try:
                assert (
                    picture_files.decode(data[: generator.integers(1, 2 * len(data))].tobytes()).mode == "RGB"
                )
            except ValueError as error:
                said.append(str(error))
        assert len(said) > 30
        assert all(
            re.fullmatch("picture cannot be read as a picture: .* Replace or remove it.", s) for s in said
        )

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
        data = encoded(colour(255).convert(mode), "JPEG" if mode == "CMYK" else "PNG")
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


def test_a_picture_to_be_shown_is_blank_where_its_file_is_gone_or_another(tmp_path):
    for number in range(3):
        path = tmp_path / "crow" / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (8, 8), (number, 20, 30)).save(path)
    collection = pictures.load(tmp_path)
    (tmp_path / "crow" / "1.png").unlink()
    Image.new("RGB", (8, 8), (99, 20, 30)).save(tmp_path / "crow" / "2.png")
    colours = [collection.open_or_blank(f"crow/{number}.png").getpixel((0, 0)) for number in range(3)]
    assert colours == [(0, 20, 30), (255, 255, 255), (255, 255, 255)]
