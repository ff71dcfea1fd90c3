import io
import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from taxogen.runs import config
from taxogen.world import pictures
from taxogen.world.dataset_pictures import Spelled, extracted
from taxogen.world.picture_files import content_hash

LEAVES = ("crow", "golden retriever")


def encoded(seed: int, form: str = "PNG") -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 255, (6, 5, 3)).astype(np.uint8)
    held = io.BytesIO()
    Image.fromarray(pixels).save(held, form)
    return held.getvalue()


@pytest.mark.parametrize(
    "text",
    [
        "datasets:",
        "datasets:?split=a",
        "datasets:x?column=a",
        "datasets:x?split=",
        "datasets:x?split=a&split=b",
    ],
)
def test_a_wrong_spelling_is_refused_when_the_config_is_made(text):
    with pytest.raises(
        ValueError, match=r"config key 'data.pictures' takes a data set as datasets:NAME\?split=…&"
    ):
        config.read(None, [f"data.pictures={text}"])


def test_a_missing_library_is_one_line_that_names_the_extra(monkeypatch, tmp_path):
    monkeypatch.setenv("TAXOPROBE_CACHE", str(tmp_path))
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'taxoprobe\[datasets\]'"):
        pictures.load("datasets:user/birds")


class TestWithDatasets:
    @pytest.fixture(autouse=True)
    def _own_caches(self, tmp_path, monkeypatch):
        self.hf = pytest.importorskip("datasets")
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("TAXOPROBE_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(self.hf.config, "HF_DATASETS_CACHE", str(tmp_path / "hf"))

    def rows(self, stored=None, labels=None, **more):
        """A data set of 6 pictures of two leaves, one of them a JPEG."""
        stored = (
            [encoded(seed, "JPEG" if seed == 2 else "PNG") for seed in range(6)] if stored is None else stored
        )
        labels = [0, 1, 0, 1, 0, 1] if labels is None else labels
        features = {"photo": self.hf.Image(), "species": self.hf.ClassLabel(names=list(LEAVES))}
        columns = {"photo": [data and {"bytes": data, "path": None} for data in stored], "species": labels}
        info = {name: self.hf.Value("string") for name in more}
        return self.hf.Dataset.from_dict({**columns, **more}, features=self.hf.Features({**features, **info}))

    def test_its_pictures_are_the_bytes_that_it_holds_under_the_names_of_its_labels(self, tmp_path):
        rows = self.rows()
        rows.info.license = "cc-by-4.0"
        rows.save_to_disk("birds")
        loaded = pictures.load("datasets:birds")
        names = {
            "crow": ["0000000.png", "0000002.jpg", "0000004.png"],
            "golden retriever": ["0000001.png", "0000003.png", "0000005.png"],
        }
        table = loaded.table
        assert table["picture"].tolist() == [f"{leaf}/{name}" for leaf in LEAVES for name in names[leaf]]
        digests = [content_hash(encoded(seed, "JPEG" if seed == 2 else "PNG")) for seed in (0, 2, 4, 1, 3, 5)]
        assert table["content_hash"].tolist() == digests
        assert set(table["source"]) == {"birds"}
        assert set(table["licence"]) == {"cc-by-4.0"}
        assert np.array_equal(
            np.asarray(loaded.open("golden retriever/0000003.png")), Image.open(io.BytesIO(encoded(3)))
        )
        again = pictures.of_table("datasets:birds", table)
        assert again.read("crow/0000002.jpg") == encoded(2, "JPEG")

    def test_a_data_set_that_changed_or_went_is_noticed_by_a_recorded_table(self):
        self.rows().save_to_disk("birds")
        recorded = pictures.load("datasets:birds").table
        assert pictures.compare(recorded, "datasets:birds") == {"missing": [], "changed": [], "new": []}
        stored = [encoded(seed, "JPEG" if seed == 2 else "PNG") for seed in (0, 1, 2, 3, 9, 5, 6)]
        self.rows(stored, [0, 1, 0, 1, 0, 1, 0]).save_to_disk("birds")
        assert pictures.compare(recorded, "datasets:birds") == {
            "missing": [],
            "changed": ["crow/0000004.png"],
            "new": ["crow/0000006.png"],
        }
        missing = pictures.compare(recorded, "datasets:gone/there/no")
        assert missing["missing"] == recorded["picture"].tolist()

    def test_splits_are_named_and_joined(self):
        one, other = self.rows(), self.rows([encoded(seed) for seed in range(10, 14)], [1, 1, 0, 0])
        self.hf.DatasetDict({"train": one, "test": other}).save_to_disk("birds")
        with pytest.raises(
            ValueError, match=r"has 2 splits and none was named; name some of train, test: \?split=train"
        ):
            pictures.load("datasets:birds")
        with pytest.raises(ValueError, match="has no split 'dev'; name some of train, test"):
            pictures.load("datasets:birds?split=dev")
        assert len(pictures.load("datasets:birds?split=train").table) == 6
        joined = pictures.load("datasets:birds?split=train+test")
        assert len(joined.table) == 10
        assert joined.read("crow/0000009.png") == encoded(13)

    def test_a_folder_of_parquet_is_read(self):
        (folder := pictures.Path("shards")).mkdir()
        self.rows().to_parquet(folder / "train-00000.parquet")
        loaded = pictures.load("datasets:shards")
        assert loaded.leaves == LEAVES
        assert loaded.read("golden retriever/0000001.png") == encoded(1)

    def test_a_folder_of_files_with_labels_beside_them_is_read(self):
        (folder := pictures.Path("photos")).mkdir()
        lines = []
        for number in range(4):
            (folder / f"{number}.png").write_bytes(encoded(number))
            lines.append(json.dumps({"file_name": f"{number}.png", "label": LEAVES[number % 2]}))
        (folder / "metadata.jsonl").write_text("\n".join(lines))
        loaded = pictures.load("datasets:photos")
        assert loaded.leaves == LEAVES
        assert loaded.table["content_hash"].tolist() == [content_hash(encoded(seed)) for seed in (0, 2, 1, 3)]

    def test_columns_that_are_not_told_are_asked_for_and_others_may_be_named(self):
        self.rows(label=["a", "a", "a", "b", "b", "b"], note=["x"] * 6).save_to_disk("birds")
        assert pictures.load("datasets:birds").leaves == LEAVES
        assert pictures.load("datasets:birds?label=label&image=photo").leaves == ("a", "b")
        with pytest.raises(
            ValueError,
            match=r"has no column 'kind'; its columns are photo \(Image\), species \(Class.*\?label=",
        ):
            pictures.load("datasets:birds?label=kind")
        with pytest.raises(ValueError, match=r"The column 'note' of 'birds' holds Value.*, no pictures"):
            pictures.load("datasets:birds?image=note")
        self.rows().remove_columns("species").save_to_disk("bare")
        with pytest.raises(
            ValueError, match=r"has 0 columns that can hold the label; its columns are photo \(Image\)"
        ):
            pictures.load("datasets:bare")

    @pytest.mark.parametrize(
        ("stored", "labels", "message"),
        [
            (
                [b"GIF89a"] + [encoded(seed) for seed in range(5)],
                None,
                r"1 of 6 pictures of 'birds' are missing, or no JPEG",
            ),
            ([None] + [encoded(seed) for seed in range(5)], None, r"row 0 \(crow\)"),
            (
                None,
                [0, -1, 0, 1, None, 1],
                "2 of 6 rows of 'birds' have no species, as row 1; filter them out",
            ),
            (None, [0, 0, 0, 1, 0, 0], r"with fewer than 2 pictures: golden retriever \(1\)"),
        ],
    )
    def test_rows_without_a_readable_picture_or_a_label_are_refused(self, stored, labels, message):
        self.rows(stored, labels).save_to_disk("birds")
        with pytest.raises(ValueError, match=message):
            pictures.load("datasets:birds")

    def test_labels_that_are_numbers_or_paths_are_no_leaves(self):
        rows = self.rows(label=["a/b", "a/b", "c", "c", "d", "d"])
        rows.save_to_disk("birds")
        with pytest.raises(
            ValueError, match="1 leaves of 'birds' have names that no folder can have, as 'a/b'"
        ):
            pictures.load("datasets:birds?label=label")
        rows.cast_column("species", self.hf.Value("int64")).save_to_disk("numbers")
        with pytest.raises(ValueError, match=r"holds Value\('int64'\), and leaves have names"):
            pictures.load("datasets:numbers?label=species")

    def test_a_name_on_the_hub_is_fetched_once_at_the_commit_that_it_stands_for(self, monkeypatch):
        asked = []

        class Api:
            def dataset_info(self, name, revision):
                asked.append((name, revision))
                return SimpleNamespace(sha="f" * 40, card_data={"license": ["mit", "cc0-1.0"]})

        monkeypatch.setattr("huggingface_hub.HfApi", Api)
        monkeypatch.setattr(self.hf, "get_dataset_split_names", lambda *names, revision: [revision, "test"])
        monkeypatch.setattr(
            self.hf,
            "load_dataset",
            lambda *names, split, revision: asked.append((names, split, revision)) or self.rows(),
        )
        name = "datasets:user/birds?split=test&config=small&revision=v1"
        for _ in range(2):
            table = pictures.load(name).table
        assert asked == [("user/birds", "v1"), (("user/birds", "small"), "test", "f" * 40)]
        assert set(table["source"]) == {"user/birds@ffffffffffff"}
        assert set(table["licence"]) == {"mit, cc0-1.0"}

    def test_what_the_hub_does_not_give_is_one_line(self, monkeypatch):
        def fails(*names, **options):
            raise ConnectionError("no route\nto host")

        monkeypatch.setattr("huggingface_hub.HfApi.dataset_info", fails)
        with pytest.raises(
            FileNotFoundError,
            match=r"'user/birds' was asked for; no folder here, and the hub did not give it \(no route to host\)",
        ):
            pictures.load("datasets:user/birds")
        with pytest.raises(FileNotFoundError, match=r"No data set '\./birds': no folder here"):
            pictures.load("datasets:./birds")
        self.rows().save_to_disk("saved")
        with pytest.raises(
            ValueError, match="'saved' was written by save_to_disk, which has no revision; leave it out"
        ):
            pictures.load("datasets:saved?revision=v1")
        assert Spelled.parse("datasets:a?label=b").options == {"label": "b"}
        with pytest.raises(FileNotFoundError):
            extracted("datasets:user/birds")
