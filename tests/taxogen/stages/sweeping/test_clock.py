"""The clock of many stages: what it says, how it estimates what is left, and that a second start still knows."""

import pytest

from taxogen.stages.sweeping.clock import Clock, words

STAGES = {f"{kind} {run}": seconds for run in "abc" for kind, seconds in (("train", 100.0), ("ask", 10.0))}


def test_a_stage_is_expected_to_take_as_long_as_those_of_its_kind(tmp_path):
    clock = Clock(tmp_path / "seconds.json", STAGES, 2, print)
    clock.seconds = {"train a": 200.0, "train b": 300.0, "ask a": 30.0}
    assert clock.left() == words(250), "one train is left, which two cannot share"
    clock.without = {"train c"}
    assert clock.left() == words(60 / 2)
    clock.seconds = {"train a": 150.0, "train b": 250.0}
    clock.without |= {"ask b", "ask c"}
    assert clock.left() == words(20), "twice as slow as expected, and alone"
    clock.without -= {"ask b", "ask c"}
    assert clock.left() == words(3 * 20 / 2), "two at once"
    clock.without |= {"ask b", "ask c"}
    clock.without |= {"ask a"}
    assert clock.left() == Clock(tmp_path / "none.json", STAGES, 2, print).left() == ""


def test_a_stage_without_expectation_has_no_say(tmp_path):
    clock = Clock(tmp_path / "seconds.json", {"look a": 0.0, "look b": 0.0, **STAGES}, 1, print)
    clock.end("look a", 0.5)
    assert clock.left() == "", "it came from a cache"
    clock.end("train a", 100.0)
    assert clock.left() == words(0.5 + 2 * 100 + 3 * 10)


def test_what_has_begun_takes_the_rest_of_its_time_and_what_was_dropped_all_or_none(tmp_path, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    clock = Clock(tmp_path / "seconds.json", STAGES, 1, print, without={"train c", "ask a", "ask b", "ask c"})
    clock.begin("train a")
    clock.end("train a", 80.0)
    clock.begin("train b", " on host:1")
    for seconds, left in ((0, "80 s"), (30, "50 s"), (90, "0 s")):
        now[0] = 1000.0 + seconds
        assert clock.left() == left
    clock.drop("train b", again=True)
    assert clock.left() == "80 s"
    clock.drop("train b", again=False)
    assert clock.left() == ""


def test_a_line_counts_and_names_a_stage_and_a_second_start_still_has_the_seconds(tmp_path):
    lines = []
    clock = Clock(tmp_path / "seconds.json", STAGES, 1, lines.append)
    clock.begin("train a")
    clock.end("train a", 100.0)
    clock.begin("ask a", " on host:1")
    assert lines == ["[1/6] train a", "[2/6] ask a on host:1   (about 4 min left)"]  # 2 × 100 s + 3 × 10 s
    clock.end("train a", 0.1)
    again = Clock(tmp_path / "seconds.json", STAGES, 1, lines.append)
    assert again.seconds == {"train a": 100.0}, "a stage that was done already takes no time"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (90, "90 s"), (91, "2 min"), (5400, "90 min"), (5401, "1.5 h")]
)
def test_durations_in_words(seconds, text):
    assert words(seconds) == text
