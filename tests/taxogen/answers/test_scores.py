"""Scores on disk: what is written is read back, the rows that do not count stay, templates stand apart."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from probing.store import records
from taxogen.answers.scores import Scores, candidates

HYPERNYMS = ("bird", "fruit", "tool")


class Folder:
    """As much of a run as scores need: a place for files."""

    def __init__(self, path):
        self.path = path

    def file(self, name):
        return self.path / name

    def require_made_here(self, path, remedy):
        return records.made_from(path, remedy)


@pytest.fixture
def scores():
    rng = np.random.default_rng(0)
    pictures, leaves = ["a.png", "b.png", "c.png", "d.png"], ["crow", "pear"]
    draw = {
        name: rng.normal(size=(len(rows), 3)).astype(np.float32)
        for rows, names in ((pictures, ("image", "first", "second")), (leaves, ("text", "one", "two")))
        for name in names
    }
    image = pd.DataFrame({"item_id": ["1", "2", "3", "4"], "picture": pictures, "leaf": [*leaves, *leaves]})
    return Scores(
        image,
        pd.DataFrame({"item_id": ["5", "6"], "leaf": leaves}),
        HYPERNYMS,
        draw["image"],
        draw["text"],
        np.array([True, False, True, True]),
        20,
        counted=np.array([True, False, True, True]),
        about="read-outs of a test",
        asked="settings of evaluate",
        apart={"kind": (draw["first"], draw["one"]), "type": (draw["second"], draw["two"])},
        thresholds=np.array([0.5, -1.0, 2.0]),
    )


def test_everything_that_is_written_is_read_back(scores, tmp_path):
    scores.write(tmp_path / "scores.h5", {})
    found = Scores.read(Folder(tmp_path))
    pd.testing.assert_frame_equal(found.image[list(scores.image)], scores.image, check_dtype=False)
    pd.testing.assert_frame_equal(found.text[list(scores.text)], scores.text, check_dtype=False)
    for name in ("raw", "image_scores", "text_scores", "leaf_correct", "counted", "thresholds"):
        np.testing.assert_array_equal(getattr(found, name), getattr(scores, name), err_msg=name)
    for name in ("hypernyms", "leaf_choices", "about", "asked"):
        assert getattr(found, name) == getattr(scores, name)
    assert list(found.apart) == ["kind", "type"]
    for name, pair in scores.apart.items():
        for one, other in zip(found.apart[name], pair, strict=True):
            np.testing.assert_array_equal(one, other)


def test_what_is_not_there_is_not_there_afterwards(scores, tmp_path):
    bare = replace(scores, image_scores=scores.raw, counted=None, apart={}, thresholds=None)
    for number, one in enumerate((bare, replace(bare, counted=np.ones(4, bool)))):
        folder = Folder(tmp_path / str(number))
        folder.path.mkdir()
        one.write(folder.file("scores.h5"), {})
        found = Scores.read(folder)
        assert found.counted is None
        assert found.thresholds is None
        assert not found.apart
        np.testing.assert_array_equal(found.image_scores, scores.raw)


def test_rows_that_do_not_count_are_undefined_but_not_lost(scores):
    assert np.isnan(scores.image_scores).all(1).tolist() == [False, True, False, False]
    assert np.isfinite(scores.raw).all()
    np.testing.assert_array_equal(scores.image_scores[[0, 2, 3]], scores.raw[[0, 2, 3]])


def test_calibrated_scores_begin_at_the_threshold_of_their_hypernym(scores):
    np.testing.assert_array_equal(scores.calibrated, scores.image_scores - np.array([0.5, -1.0, 2.0]))
    plain = replace(scores, image_scores=scores.raw, thresholds=None)
    np.testing.assert_array_equal(plain.calibrated, plain.image_scores)


def test_a_template_has_its_own_scores_and_no_threshold(scores):
    one = scores.of_template("type")
    np.testing.assert_array_equal(one.raw, scores.apart["type"][0])
    np.testing.assert_array_equal(one.text_scores, scores.apart["type"][1])
    assert np.isnan(one.image_scores).all(1).tolist() == [False, True, False, False]
    assert one.thresholds is None
    assert not one.apart
    with pytest.raises(
        KeyError, match=r"'riddle' were asked for; apart are: kind, type; evaluate\.templates"
    ):
        scores.of_template("riddle")
    with pytest.raises(KeyError, match="apart are: none"):
        one.of_template("kind")


def test_candidates_are_the_hypernyms_with_the_highest_scores_best_first(scores):
    image = np.array([[0.1, 0.3, 0.2], [2.0, 2.0, 3.0], [-1.0, -2.0, -3.0], [0.0, 0.0, 0.0]])
    ranked = candidates(replace(scores, image_scores=image, counted=None), 2)
    assert ranked == [["fruit", "tool"], ["tool", "bird"], ["bird", "fruit"], ["bird", "fruit"]]


def test_a_run_without_scores_names_the_command(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"has no scores\.h5; `python -m taxogen evaluate --run"):
        Scores.read(Folder(tmp_path))
