"""The mutation run: each operator gives the fault that it names, and a fault lives only where no test sees it."""

import subprocess
from pathlib import Path

import pytest

from tests.mutants import report
from tests.mutants.operators import mutations
from tests.mutants.rooms import mutants, rooms, sample, stages
from tests.mutants.runs import METHOD, run

ROOT = Path(__file__).parent.parent.parent


def changed(source: str) -> set[tuple[str, str]]:
    """(kind, text) of every mutation of a source."""
    return {(mutation.kind, mutation.apply(source)) for mutation in mutations(source)}


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("a < b\n", {("comparison", "a <= b\n")}),
        ("a >= b\n", {("comparison", "a > b\n")}),
        ("(a) == (b)\n", {("comparison", "(a) != (b)\n")}),
        ("a < b <= c\n", {("comparison", "a <= b <= c\n"), ("comparison", "a < b < c\n")}),
        ("é = 'ü' + x * y\n", {("arithmetic", "é = 'ü' + x / y\n")}),  # spans are bytes, and words do not subtract
        ("x ** y * z\n", {("arithmetic", "x ** y / z\n")}),
        ("x - y\n", {("arithmetic", "x + y\n"), ("sign", "-(x - y)\n")}),
        ("n += 2\n", {("arithmetic", "n -= 2\n"), ("constant", "n += 3\n")}),
        ("a and b\n", {("boolean", "a or b\n")}),
        ("not (a or b)\n", {("boolean", "(a or b)\n"), ("boolean", "not (a and b)\n")}),
        ("~mask & other\n", {("mask", "mask & other\n"), ("mask", "~mask | other\n")}),
        ("f(-x)\n", {("sign", "f(x)\n")}),
        ("x[0]\n", {("constant", "x[1]\n")}),
        ("x[-1]\n", {("constant", "x[-2]\n")}),
        ("x = .5, 1e-9, 4096\n", {("constant", "x = 0.6, 1e-9, 4096\n")}),
        ("quantile(x, 0.95)\n", {("constant", "quantile(x, 0.9)\n")}),
        ("x[i:n]\n", {("slice", "x[i + 1:n]\n"), ("slice", "x[i:n + 1]\n")}),
        ("x.mean(axis=0)\n", {("axis", "x.mean(axis=1)\n")}),
        ("x.mean(axis=-1)\n", {("axis", "x.mean(axis=0)\n")}),
        ("np.argmax(x)\n", {("extremum", "np.argmin(x)\n")}),
        ("f(a, b, 2)\n", {("arguments", "f(b, a, 2)\n"), ("constant", "f(a, b, 3)\n")}),
        ('row["lower"]\n', {("column", 'row["upper"]\n')}),
        ('x = ["value", "n"]\n', {("column", 'x = ["n", "value"]\n')}),
        ('x = {"value": a, "n": b}\n', {("column", 'x = {"n": a, "value": b}\n')}),
        ('x == "image"\n', {("comparison", 'x != "image"\n'), ("word", 'x == "text"\n')}),
        ("if a:\n    raise E(0 < 1)\n", {("guard", "if a: pass\n")}),
    ],
)  # fmt: skip
def test_an_operator_changes_its_own_span_and_nothing_else(source, expected):
    assert changed(source) == expected


@pytest.mark.parametrize(
    "source",
    [
        '"""A doc with 0 < 1."""\n',
        'def f(x: Float[Array, "1"] = None, *, y: Literal["image"]) -> Literal["text"]:\n    "image"\n',
        'Modality = Literal["image", "text"]\n',
        'x: Literal["image"]\n',
        '__all__ = ["value", "lower"]\n',
        "from a import b\nimport c.d\n",
        "@dataclass(order=1)\nclass A:\n    pass\n",
        'print(0 < 1)\nlogging.info("image")\ntqdm(rows, mininterval=1)\n',
        'f(figsize=(1, 2), linewidth=.5)\nstyle = {"fontsize": 1}\n',
        "assert 0 < x\n",
        'x = f"{1 + 1} of 2"\n',
        "max(a, b) and None\n".replace("max(a, b) and", "isinstance(a, b) if f(a, a) else"),
    ],
)
def test_what_is_no_behaviour_is_left_alone(source):
    assert not mutations(source)


@pytest.mark.parametrize("room", rooms(ROOT))
def test_every_drawn_mutant_parses_and_stands_where_it_says(room):
    for mutant in sample(ROOT, room, 8, 1):
        source = (ROOT / mutant.file).read_text(encoding="utf-8")
        assert mutant.mutation.changes(source)
        lines, new = source.splitlines(), mutant.mutation.apply(source).splitlines()
        first = next(k for k, (old, line) in enumerate(zip(lines, new, strict=False)) if old != line)
        assert first + 1 >= mutant.mutation.line
        assert lines[: mutant.mutation.line - 1] == new[: mutant.mutation.line - 1]


def test_the_same_seed_draws_the_same_mutants_and_no_line_twice():
    drawn = sample(ROOT, "probing/stats", 20, 3)
    assert drawn == sample(ROOT, "probing/stats", 20, 3)
    assert drawn != sample(ROOT, "probing/stats", 20, 4)
    assert len({(one.file, one.mutation.line) for one in drawn}) == len(drawn) == 20
    assert {one.key for one in drawn} <= {one.key for one in mutants(ROOT, "probing/stats")}


def test_a_room_is_tested_by_its_mirror_first_and_by_the_frozen_tables_of_its_name_last():
    first, *_, last = stages(ROOT, "analyses/erasure")
    assert first.name == "own tests"
    assert "tests/analyses/test_erasure.py" in first.arguments
    assert last.arguments == ("tests/test_frozen.py", "-k", "erasure or steering")
    assert stages(ROOT, "probing/stats")[-1].arguments == ("tests/test_frozen.py",)


SOURCE = """LIMIT = dict(inner={}["gone"]) if False else {0: 2}[0]


def inside(x: int) -> bool:
    return 0 < x and x <= 9


def wait(done: int) -> None:
    while done < 1:
        done += 1
"""
TEST = """from probing.edits.fake import inside, wait


def test_it():
    wait(0)
    assert inside(5)
    assert not inside(10)


def test_that_fails_anyway():
    assert inside(11)
"""


@pytest.fixture
def project(tmp_path) -> Path:
    """A repository of one module, and one test file that sees some of it."""
    for name, text in {
        "probing/__init__.py": "",
        "probing/edits/__init__.py": "",
        "probing/edits/fake.py": SOURCE,
        "tests/probing/edits/test_fake.py": TEST,
        ".gitignore": "__pycache__\n",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    return tmp_path


@pytest.mark.filterwarnings(
    "ignore:This process:DeprecationWarning"
)  # Python 3.12 on forks of a process with threads
@pytest.mark.parametrize(
    "method", [METHOD, *(pytest.param(one, marks=pytest.mark.nightly) for one in {"spawn"} - {METHOD})]
)
def test_a_run_kills_what_a_test_sees_and_reports_what_it_does_not(project, method, monkeypatch):
    monkeypatch.setattr("tests.mutants.runs.WARM", "")
    monkeypatch.setattr("tests.mutants.runs.GRACE", 2)
    every = {one.after: one for one in mutants(project, "probing/edits")}
    chosen = [
        every["return 0 < x or x <= 9"],  # 10 is inside
        every["return 1 < x and x <= 9"],  # no test asks for 1
        every["LIMIT = dict(inner={}[\"gone\"]) if False else {0: 2}[1]"],
        every["done -= 1"],
    ]  # fmt: skip
    records = list(run(project, {"probing/edits": chosen}, 1, method))
    status = {one["after"]: one["status"] for one in records if one["status"] != "unsound"}
    assert list(status.values()) == ["killed", "survived", "invalid", "timeout"]
    assert list(status) == [one.after for one in chosen]
    name = "tests/probing/edits/test_fake.py::test_that_fails_anyway"
    assert [one["failures"] for one in records if one["status"] == "unsound"] == [[name]]
    assert (project / "probing/edits/fake.py").read_text() == SOURCE
    text = report.plain(records, {})
    assert (
        "probing/edits        4       2            1         1           0        1         0        67"
        in text
    )
    assert name in text


def test_survivors_with_a_reason_are_listed_and_equivalent_ones_do_not_count(tmp_path):
    record = {
        "room": "a",
        "file": "a/b.py",
        "line": 3,
        "function": "f",
        "kind": "constant",
        "stage": "own tests",
    }
    records = [
        {**record, "status": "killed", "key": "k", "before": "x", "after": "y"},
        {
            **record,
            "status": "survived",
            "key": "a/b.py:f: x | 1 → x | 2",
            "before": "x | 1",
            "after": "x | 2",
        },
        {**record, "status": "survived", "key": "s", "before": "x", "after": "z"},
    ]
    path = tmp_path / "reasons.toml"
    path.write_text('[equivalent]\n"a/b.py:f: x | 1 → x | 2" = "x is even"\n')
    why = report.reasons(path)
    assert report.table(records, why)[-1] == ("all", "3", "1", "0", "1", "1", "0", "0", "50")
    page = report.markdown(records, why)
    assert "| `a/b.py` f | `x \\| 1` → `x \\| 2` | equivalent: x is even |" in page
    assert report.skeleton(records, why) == '"s" = ""'
    assert "x | 2" not in report.plain(records, why)
    path.write_text(path.read_text() + '[accepted]\n"a/b.py:f: x | 1 → x | 2" = ""\n')
    with pytest.raises(ValueError, match="leave it in one"):
        report.reasons(path)


def test_every_reason_belongs_to_a_mutant_of_the_source_as_it_is():
    known = {one.key for room in rooms(ROOT) for one in mutants(ROOT, room)}
    assert set(report.reasons()) <= known
