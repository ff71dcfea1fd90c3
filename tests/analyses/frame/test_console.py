"""The console command: it lists, it passes on, it refuses in one line, and Tab knows its words."""

import subprocess
import sys
from pathlib import Path

import pytest

from analyses.frame import console, registry

HEAVY = ("torch", "transformers", "pandas", "numpy", "matplotlib", "sklearn")
PACKAGES = Path(console.__file__).parent.parent
LISTINGS = {
    "--help": "from analyses.frame import console; console.main(['--help'])",
    "analyse": "from analyses.frame import console; console.main(['analyse'])",
    "python -m analyses": "import runpy; runpy.run_module('analyses', run_name='__main__')",
}


@pytest.fixture
def wide(monkeypatch):
    """A terminal in which no line goes on in another."""
    monkeypatch.setenv("COLUMNS", "400")


def test_every_command_is_in_one_group_of_the_listing(capsys, wide):
    assert console.main(["--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    runnable = {path.parent.name for path in PACKAGES.glob("*/__main__.py")} - set(registry.questions())
    named = [name for names in console.GROUPS.values() for name in names]
    assert sorted(named) == sorted({console.ANALYSE, *runnable, *console.stages()})
    for title, names in console.GROUPS.items():
        at = lines.index(title)
        listed = [line.split()[0] for line in lines[at + 1 : at + 1 + len(names)]]
        assert listed == list(names)
        assert all(len(line.split()) > 3 for line in lines[at + 1 : at + 1 + len(names)]), title


def test_every_question_is_one_line_of_the_list(capsys, wide):
    assert console.main(["analyse"]) == 0
    lines = capsys.readouterr().out.splitlines()[2:]
    told = dict(line.strip().split(maxsplit=1) for line in lines)
    assert told == {name.replace("_", "-"): question for name, question in registry.questions().items()}


@pytest.mark.parametrize("listing", LISTINGS)
def test_a_listing_waits_for_no_heavy_library(listing):
    program = f"import sys; {LISTINGS[listing]}; print(*sorted(sys.modules), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "layer" in done.stdout + "layer" * (listing == "--help")
    assert not set(HEAVY) & set(done.stderr.split())


def test_a_command_is_that_of_taxogen_with_its_flags_and_its_exit_code(capsys, tmp_path, caplog):
    assert console.main(["config", "--set", "train.steps=31"]) == 0
    assert "steps = 31" in capsys.readouterr().out
    assert console.main(["evaluate", "--run", str(tmp_path / "none")]) == 2
    assert "python -m taxogen train" in caplog.text


@pytest.mark.parametrize("name", ["layer-probes", "layer_probes"])
def test_a_question_is_asked_under_its_name_with_dashes_or_underscores(capsys, name):
    with pytest.raises(SystemExit) as shown:
        console.main(["analyse", name, "--help"])
    assert shown.value.code == 0
    assert "python -m analyses.layer_probes" in capsys.readouterr().out


def test_a_refusal_of_an_analysis_keeps_its_exit_code_and_its_one_line(capsys, tmp_path):
    with pytest.raises(SystemExit) as refused:
        console.main(["analyse", "layer-probes", "--run", str(tmp_path / "none")])
    assert refused.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "is not a run directory" in line


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["trian"], "no command 'trian'; did you mean `taxoprobe train`? `taxoprobe --help` lists all"),
        (["layer_probes"], "did you mean `taxoprobe analyse layer-probes`?"),
        (["analyse", "knock-out"], "no question 'knock-out'; did you mean `taxoprobe analyse knockout`?"),
        (["analyse", "report", "--run", "r"], "no question 'report'; did you mean `taxoprobe report`?"),
        (["xyzzy"], "no command 'xyzzy'; `taxoprobe --help` lists all"),
        (["--print-completion", "sh"], "takes one of bash, zsh"),
        (["--print-completion"], "takes one of bash, zsh"),
    ],
)
def test_an_unknown_name_is_one_line_that_names_the_nearest(capsys, words, message):
    assert console.main(words) == 2
    output = capsys.readouterr()
    (line,) = output.err.splitlines()
    assert line.startswith("taxoprobe: ")
    assert message in line
    assert not output.out


@pytest.fixture(scope="module")
def bash_script(tmp_path_factory) -> Path:
    """The completion script for bash."""
    path = tmp_path_factory.mktemp("completion") / "taxoprobe.bash"
    done = [sys.executable, "-c", "import sys; from analyses.frame import console; sys.exit(console.main())"]
    with path.open("w") as script:
        subprocess.run([*done, "--print-completion", "bash"], stdout=script, check=True)
    return path


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["tr"], {"train"}),
        (["analyse", "layer-"], {"layer-probes"}),
        (["analyse", "layer-probes", "--dra"], {"--draws"}),
        (["train", "--pres"], {"--preset"}),
        (["train", "--preset", "de"], {"default"}),
        (["report", "--o"], {"--out"}),
    ],
)
def test_tab_completes_commands_questions_flags_and_their_values(bash_script, words, offered):
    line = " ".join(["taxoprobe", *words])
    program = f"source {bash_script}; COMP_WORDS=({line}); COMP_CWORD={len(words)}; _shtab_taxoprobe; "
    program += 'printf "%s\\n" "${COMPREPLY[@]}"'
    done = subprocess.run(["bash", "-c", program], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) == offered


def test_tab_offers_folders_where_a_run_is_wanted(bash_script, tmp_path):
    (tmp_path / "my-run").mkdir()
    (tmp_path / "my-file").touch()
    program = (
        f"source {bash_script}; COMP_WORDS=(taxoprobe evaluate --run my-); COMP_CWORD=3; _shtab_taxoprobe; "
    )
    program += 'printf "%s\\n" "${COMPREPLY[@]}"'
    done = subprocess.run(["bash", "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["my-run"]
