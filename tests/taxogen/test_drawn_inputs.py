"""Two hundred drawn worlds, run folders and configs: none is silently wrong. `make nightly` tries all of them.

What an input is, and what came of it, is printed: `pytest tests/taxogen/test_drawn_inputs.py -m '' -s -k worlds-17`.
"""

import pytest

from tests.taxogen.drawn import configs, run_folders, worlds
from tests.taxogen.drawn.scene import contents, copied, inside, write_scene

NUMBERS = {"worlds": 60, "run_folders": 80, "configs": 60}
JUDGES = {"worlds": worlds.judged, "run_folders": run_folders.judged, "configs": configs.judged}
BY_DAY = 8
"""How many of each kind are tried in every run of the suite."""
DRAWN = [
    pytest.param(kind, number, id=f"{kind}-{number}", marks=[pytest.mark.nightly] if number >= BY_DAY else [])
    for kind, count in NUMBERS.items()
    for number in range(count)
]


@pytest.fixture(scope="module")
def scene(tmp_path_factory, asking_lm):
    """The folder of a toy experiment, to be copied, and what its run and its report hold."""
    folder = write_scene(tmp_path_factory.mktemp("drawn") / "scene", asking_lm)
    return folder, {name: contents(folder / name) for name in ("run", "report")}


@pytest.mark.parametrize(("kind", "number"), DRAWN)
def test_a_drawn_input_is_right_or_refused_in_one_line(scene, kind, number, tmp_path):
    folder, before = scene
    with inside(copied(folder, tmp_path / "scene")):
        words, outcome = JUDGES[kind](number, before)
    print(f"{kind} {number}: {'; '.join(words)} ⇒ {outcome}")
    assert not outcome.startswith("WRONG"), f"{'; '.join(words)} ⇒ {outcome}"
