"""Settings in a TOML file: each refusal is one line that names the file and the line."""

import pytest

from taxogen.runs import config
from tests.taxogen.runs.refusals import refusal

IN_FILES = [
    ("steps = 3", 1, "config key 'steps' is not known; did you mean 'train.steps'?"),
    ("seed = 1\n\n[train]\nsteps = true", 4, "'train.steps' takes a whole number of at least 0, found True"),
    ("[train]\nlr = true", 2, "'train.lr' takes a number above 0, found True"),
    ("[train]\nlr = nan", 2, "'train.lr' takes a number above 0, found nan"),
    ("[train]\nlr = -inf", 2, "'train.lr' takes a number above 0, found -inf"),
    ("[train]\nsteps = 3.0", 2, "'train.steps' takes a whole number of at least 0, found 3.0"),
    ('[train]\nsteps = "3"', 2, "'train.steps' takes a whole number of at least 0, found '3'"),
    ("[train]\n# many\nsteps = [3]", 3, "'train.steps' takes a whole number of at least 0, found [3]"),
    (
        "[train]\nbatch = 2020-01-01",
        2,
        "'train.batch' takes a whole number of at least 1, found datetime.date",
    ),
    (
        f"[train]\nbatch = 0x{'f' * 5000}",
        2,
        "'train.batch' takes a whole number of at least 1, found int with",
    ),
    ("[data]\ntask = 3", 2, "'data.task' takes a text, found 3"),
    ("[data]\npictures = true", 2, "'data.pictures' takes a text that is not empty, found True"),
    ('[data]\nchat = "true"', 2, "'data.chat' takes true or false, found 'true'"),
    ("[data]\nchat = 1", 2, "'data.chat' takes true or false, found 1"),
    ('[data]\ntask = ["yes_no"]', 2, "'data.task' takes a text, found ['yes_no']"),
    ('[data]\nheld_out = [\n  "bird",\n  ["tool"],\n]', 2, "takes a list of texts, found the entry ['tool']"),
    ("[data]\nheld_out = [3]", 2, "'data.held_out' takes a list of texts, found the entry 3"),
    ("[data]\nheld_out = 3", 2, "'data.held_out' takes a list of texts, found 3"),
    ("[capture]\nat = [true]", 2, "'capture.at' takes a list of texts, found the entry True"),
    (
        "[capture]\nat = [0, -1]",
        2,
        "'capture.at' takes numbers of steps such as 0 and 50, and 'last', found '-1'",
    ),
    ("data = 3", 1, "'data' is a table of settings (data.task, …), found 3"),
    ("data = []", 1, "'data' is a table of settings (data.task, …), found []"),
    ("[[data]]\nchat = true", 1, "'data' is a table of settings (data.task, …), found [{'chat': True}]"),
    ("seed = 1\n[foo]", 2, "config key 'foo' is not known"),
    ("[train.steps]", 1, "'train.steps' takes a whole number of at least 0, found {}"),
    (
        "train = {batch = 2, stepz = 3}",
        1,
        "config key 'train.stepz' is not known; did you mean 'train.steps'?",
    ),
    ('"train.steps" = 3\n[train]\nsteps = 4', 1, "config key 'train.steps' is given twice"),
    ("[evaluate]\ndraws = 2000", 2, "config key 'evaluate.draws' is retired: nothing ever read it"),
    ('[data]\ntask = "yesno"', 2, "data.task 'yesno' was asked for; known: completion, yes_no; did you mean"),
    ("[train]\nwarmup = 3", 2, "'train.warmup' takes a number of at least 0 and below 1, found 3.0"),
    (
        "[train]\r\n\r\nsteps = 1\r\nbatch = 0\r\n",
        4,
        "'train.batch' takes a whole number of at least 1, found 0",
    ),
    ('name = "a/b"', 1, "'name' takes a name of at most 128 of the characters"),
    ("[train]\nsteps = ", 2, "Invalid value"),
    ("seed = 1\nseed = 2", 2, "Cannot overwrite a value"),
    ("[data]\n[train]\n[data]", 3, "Cannot declare ('data',) twice (at column 6)"),
    ('seed = 1\n\nname = """x\n\n', 3, "Unterminated string"),
    (f"\nseed = {'9' * 5000}\n", 2, "Exceeds the limit (4300 digits)"),
]


@pytest.mark.parametrize(("text", "line", "message"), IN_FILES)
def test_what_is_wrong_in_a_file_is_named_with_its_line(text, line, message, tmp_path):
    path = tmp_path / "mine.toml"
    path.write_bytes(text.encode())
    line_of_refusal = refusal(config.read, path)
    assert line_of_refusal.startswith(f"config {path}, line {line}: ")
    assert message in line_of_refusal


def test_tables_may_be_empty_and_lists_written_in_two_ways(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('[data]\n[capture]\nat = [0, 50, "last"]\nspans = "slot,cue"\n', encoding="utf-8")
    own = config.read(path).capture
    assert (own.at, own.spans) == (("0", "50", "last"), ("slot", "cue"))


def test_a_file_with_a_byte_order_mark_and_windows_lines_is_read(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_bytes(b"\xef\xbb\xbf[train]\r\nsteps = 7\r\n")
    assert config.read(path).train.steps == 7


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"seed = 1\nname = '\xe4'\n", "line 2: the file is not UTF-8; save it as UTF-8"),
        ("seed = 1".encode("utf-16"), "line 1: the file is not UTF-8"),
        (b"a = " + b"[" * 20_000, ": its tables or lists are nested too deeply"),
    ],
)
def test_a_file_that_is_no_text_is_refused(content, message, tmp_path):
    path = tmp_path / "mine.toml"
    path.write_bytes(content)
    assert message in refusal(config.read, path)


def test_a_file_that_cannot_be_read_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(FileNotFoundError, match=r"none\.toml was asked for, .* `python -m taxogen config`"):
        config.read(tmp_path / "none.toml")
    with pytest.raises(OSError, match=f"config {tmp_path} cannot be read: Is a directory; give a TOML file"):
        config.read(tmp_path)
    with pytest.raises(OSError, match="cannot be read: Not a directory"):
        config.read(tmp_path / "file" / "mine.toml")
