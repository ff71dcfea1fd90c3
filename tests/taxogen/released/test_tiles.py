"""Where picture tokens of released models lie: a token changes most where its own place in the picture changes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from analyses.picture_maps.figures import on_pixels
from analyses.picture_maps.places import inside
from analyses.picture_maps.pointing import pointing
from taxogen.models.rows import IMAGE
from taxogen.questions import prompts
from taxogen.released import loading
from taxogen.released.tiles import token_boxes
from taxogen.released.vlm import ReleasedVlm
from tests.probing import tiny_vlms

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
SIZE = (64, 48)


class Shown:
    """Pictures by number: noise, and the same with one box of it repainted."""

    def __init__(self) -> None:
        pixels = np.random.default_rng(0).integers(100, 150, (*SIZE[::-1], 3), dtype=np.uint8)
        self.pictures = [Image.fromarray(pixels)]

    def __call__(self, number: int) -> Image.Image:
        return self.pictures[number]

    def repainted(self, box: np.ndarray) -> int:
        """The number of the picture with black and white noise in a box."""
        pixels = np.array(self.pictures[0])
        left, top, right, bottom = (np.clip(box, 0, 1) * (*SIZE, *SIZE)).round().astype(int)
        noise = np.random.default_rng(len(self.pictures)).random((bottom - top, right - left, 1)) < 0.5
        pixels[top:bottom, left:right] = np.where(noise, 0, 255)
        self.pictures.append(Image.fromarray(pixels))
        return len(self.pictures) - 1


NIGHTLY = [pytest.param(name, marks=pytest.mark.nightly) for name in ("qwen2_5_vl", "idefics3")]
JOINED = ["llava_next", "llava_onevision", "pixtral", "mistral3"]


@pytest.fixture(scope="module")
def opened(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory):
    if request.param in JOINED:
        released = loading.Released(*tiny_vlms.GRIDS[request.param](), request.param, "")
        for name, weight in released.model.named_parameters():
            if "vision_tower" in name and name.endswith(
                ("o_proj.weight", "out_proj.weight", "out_proj.bias")
            ):
                weight.zero_()  # a token then sees its own patch alone
    else:
        folder = tiny_vlms.save(request.param, tmp_path_factory.mktemp("vlm"))
        released = loading.load(str(folder), "float32", "cpu")
    shown = Shown()
    return ReleasedVlm(released, shown, chat=False), shown


def embedded(vlm: ReleasedVlm, picture: int) -> torch.Tensor:
    row = vlm.row("x", prompts.segments("kind"), picture)
    given = vlm.inputs([row], torch.empty(0))["inputs_embeds"]
    assert isinstance(given, torch.Tensor)
    return given[0, list(row.spans["image"])].float()


@pytest.mark.parametrize("opened", ["llava", *NIGHTLY], indirect=True)
def test_the_token_of_a_place_changes_most_when_the_picture_changes_there(opened, monkeypatch) -> None:
    vlm, shown = opened
    for side in (0, 40):
        monkeypatch.setattr(vlm, "side", side)
        vlm._slots.clear()
        vlm._handed.clear()
        boxes, before = token_boxes(vlm, 0), embedded(vlm, 0)
        assert len(boxes) == len(before) == vlm.slot(0).count(IMAGE) > 1
        changes = torch.stack(
            [(embedded(vlm, shown.repainted(box)) - before).norm(dim=-1) for box in boxes]
        ).argmax(1)
        overview = len(set(map(tuple, boxes.round(3)))) > len(boxes) // 2 and _area(boxes).sum() > 1.5
        if overview:  # a place is in a tile and in the view of the whole picture, which may change more
            overlaps = [_overlap(boxes[at], boxes[int(most)]) for at, most in enumerate(changes)]
            assert min(overlaps) > 0.9
        else:
            assert changes.tolist() == list(range(len(boxes)))


@pytest.mark.parametrize("side", [0, 40])
@pytest.mark.parametrize("opened", JOINED, indirect=True)
def test_an_object_is_seen_by_the_tokens_that_lie_on_it(opened, side, monkeypatch) -> None:
    vlm, shown = opened
    monkeypatch.setattr(vlm, "side", side)
    vlm._slots.clear()
    vlm._handed.clear()
    boxes = token_boxes(vlm, 0)
    placed = _area(boxes) > 0
    rows, columns = np.mgrid[: SIZE[1], : SIZE[0]]
    for x, y in ((16, 12), (40, 14), (46, 36), (20, 34)):
        shape = ((columns - x) / 15) ** 2 + ((rows - y) / 11) ** 2 < 1
        shown.pictures.append(Image.fromarray(np.where(shape[..., None], 255, np.array(shown.pictures[0]))))
        on = inside(shape, boxes)
        seen = (embedded(vlm, len(shown.pictures) - 1) - embedded(vlm, 0)).norm(dim=-1).numpy()
        assert (on > 0.5).sum() > 3
        assert seen[on > 0.5].min() > seen[on == 0].max()
        assert (seen[~placed] == 0).all()
        assert (on[~placed] == 0).all()
        assert pointing(seen, "attention", on) > 2 * on.mean()
        assert (
            np.isfinite(on_pixels(seen, boxes)).mean() > 0.85
        )  # where margins are cut off, nothing is drawn


@pytest.mark.parametrize("opened", ["llava_next"], indirect=True)
def test_the_whole_picture_comes_before_the_joined_tiles_and_each_row_has_an_end(opened, monkeypatch) -> None:
    vlm, _ = opened
    monkeypatch.setattr(vlm, "side", 40)
    vlm._slots.clear()
    boxes = token_boxes(vlm, 0)
    np.testing.assert_allclose(_area(boxes[:9]), 1 / 9, atol=0.01)
    rows = boxes[9:].reshape(6, 7, 4)
    np.testing.assert_allclose(_area(rows[:, :6].reshape(-1, 4)), 1 / 36, atol=0.01)
    np.testing.assert_allclose(rows[:, 6, 0], rows[:, 5, 2])
    np.testing.assert_allclose(rows[:, 6, 2], rows[:, 5, 2])
    np.testing.assert_allclose(rows[:, :, 1], np.arange(6)[:, None] / 6 * np.ones(7), atol=0.01)
    monkeypatch.setattr(vlm.released.model.config, "model_type", "llava_later")
    with pytest.raises(ValueError, match="how llava_later joins 5 tiles"):
        token_boxes(vlm, 0)


@pytest.mark.parametrize("opened", ["llava_onevision"], indirect=True)
def test_tokens_of_onevision_that_are_too_many_are_made_fewer_of_the_same_view(opened, monkeypatch) -> None:
    """Four tiles of 5 × 5 patches, of which 40 of 41 pixels are seen; 10 × 10 tokens of at most 50 become 7 × 7."""
    vlm, _ = opened
    monkeypatch.setattr(vlm, "side", 70)
    vlm._slots.clear()
    boxes, end = token_boxes(vlm, 0), 0.5 + 0.5 * 40 / 41
    np.testing.assert_allclose(_area(boxes[:25]), (8 / 41) ** 2, atol=0.002)
    rows = boxes[25:].reshape(7, 8, 4)
    np.testing.assert_allclose(rows[:, :7, 0], end * np.arange(7) / 7 * np.ones((7, 1)), atol=0.01)
    np.testing.assert_allclose(rows[:, :7, 3].T, end * np.arange(1, 8) / 7 * np.ones((7, 1)), atol=0.01)
    np.testing.assert_allclose(rows[:, 7, [0, 2]], rows[:, 6, [2, 2]])


def _area(boxes: np.ndarray) -> np.ndarray:
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def _overlap(box: np.ndarray, other: np.ndarray) -> float:
    """The share of the smaller of two boxes that lies in the other."""
    both = np.array([*np.maximum(box[:2], other[:2]), *np.minimum(box[2:], other[2:])])
    if (both[2:] <= both[:2]).any():
        return 0.0
    return float(_area(both[None])[0] / min(_area(box[None])[0], _area(other[None])[0]))


@pytest.mark.parametrize("opened", NIGHTLY[1:], indirect=True)
def test_tiles_come_before_the_whole_picture(opened) -> None:
    vlm, _ = opened
    area = _area(token_boxes(vlm, 0))
    assert (area[-4:] > 2 * area[:-4].max()).all()
    np.testing.assert_allclose(area[-4:].sum(), 1, atol=0.02)
    np.testing.assert_allclose(area[:-4].sum(), 1, atol=0.02)


@pytest.mark.parametrize("opened", ["llava"], indirect=True)
def test_tokens_without_a_known_grid_are_refused_in_one_line(opened, monkeypatch) -> None:
    vlm, _ = opened
    monkeypatch.setattr(vlm, "side", 0)
    real, tokens = vlm.processed, vlm.slot(0)
    monkeypatch.setattr(vlm.released.processor.image_processor, "merge_size", 2, raising=False)
    monkeypatch.setattr(vlm, "slot", lambda picture: tokens)
    for more, said in (
        ({"image_sizes": torch.tensor([[16, 20]])}, "9 tokens for 1 tiles of a picture of 20 × 16 pixels"),
        ({"image_grid_thw": torch.tensor([[2, 4, 4]])}, "9 tokens for a grid of 2 × 4 × 4 patches"),
        ({"pixel_values": torch.zeros(20, 48)}, r"values of shape \(20, 48\)"),
    ):
        monkeypatch.setattr(vlm, "processed", lambda shown, more=more: {**real(shown), **more})
        with pytest.raises(ValueError, match=said) as refusal:
            token_boxes(vlm, 0)
        assert "their grid is not known" in str(refusal.value)
        assert "\n" not in str(refusal.value)
