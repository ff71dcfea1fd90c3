"""The start of a command: help without libraries is the same help and complete, and Ctrl-C is one line."""

import argparse
import json
import logging
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from analyses import starting
from analyses.frame import console
from taxogen.__main__ import add_commands
from taxogen.__main__ import command as taxogen
from taxogen.__main__ import parser as taxogen_parser
from taxogen.runs.config import Config
from taxogen.runs.config.reference import to_toml
from taxogen.runs.flags import Help, Notes, Parser, note

COMMANDS = sorted(path.parent.name for path in Path(starting.__file__).parent.glob("*/__main__.py"))
HELP_OF_EACH = """
import json, sys
names, sys.argv = sys.argv[1:], ["taxoprobe", "--help"]
import analyses
from importlib import import_module
from pathlib import Path
modules = [import_module(f"analyses.{name}") for name in names]
parsers = [getattr(module, "ANALYSIS", module).parser() for module in modules]
real = [name for name, one in sys.modules.items() if "site-packages" in str(getattr(one, "__file__", ""))]
print(json.dumps([real, dict(zip(names, (parser.format_help() for parser in parsers)))]))
"""


def test_help_waits_for_no_library_and_is_the_help_that_there_is_with_all(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    command = [sys.executable, "-c", HELP_OF_EACH, *COMMANDS]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ)
    real, light = json.loads(done.stdout)
    assert not [
        name for name in real if "." not in name and not name.startswith(("_", "shtab", "sitecustomize"))
    ]
    for name, text in light.items():
        module = import_module(f"analyses.{name}")
        assert text == getattr(module, "ANALYSIS", module).parser().format_help(), name


@pytest.mark.parametrize(
    "argv, original, ours",
    [
        (["-m", "--run", "r"], ["python", "-X", "dev", "-m", "analyses.lens", "--run", "r"], True),
        (["-m"], ["python", "-m", "taxogen", "train"], True),
        (["/some/bin/taxoprobe", "train"], ["python", "/some/bin/taxoprobe", "train"], True),
        (["C:/Scripts/taxoprobe.exe"], ["python"], True),
        (["-m", "-h"], ["python", "-m", "pytest", "analyses", "-h"], False),
        (["-m"], ["python", "-m"], False),
        (["-c", "-h"], ["python", "-c", "import analyses", "-h"], False),
        (["taxoprobe_plots.py", "-h"], ["python", "taxoprobe_plots.py", "-h"], False),
        ([], [], False),
    ],
)
def test_only_commands_of_ours_are_prepared(argv, original, ours, monkeypatch):
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    before = len(sys.meta_path)
    starting.start(argv, original)
    assert starting.is_command(argv, original) == ours
    assert (sys.excepthook is not sys.__excepthook__) >= ours
    assert len(sys.meta_path) - before == (ours and "--help" in argv)


def parsers():
    commands = Parser().add_subparsers()
    add_commands(commands)
    of_analyses = {name: import_module(f"analyses.{name}") for name in COMMANDS}
    return commands.choices | {
        name: getattr(module, "ANALYSIS", module).parser() for name, module in of_analyses.items()
    }


def test_each_flag_tells_its_default_and_whether_it_may_be_given_again():
    for name, parser in parsers().items():
        assert parser.formatter_class is Help, name
        for action in parser._actions:
            if isinstance(action, argparse._HelpAction) or action.help == argparse.SUPPRESS:
                continue
            text = Help("")._get_help_string(action).lower()
            flag = f"{name} {action.option_strings}: {text}"
            assert len((action.help or "").split()) > 1, flag
            assert "required" in text or "default" in text, flag
            assert ("given again" in text) == isinstance(action, argparse._AppendAction), flag
            assert action.dest not in ("settings", "vary") or "such as" in text, flag


def test_no_two_flags_of_a_command_fill_one_value():
    for name, parser in parsers().items():
        filled = [action.dest for action in parser._actions]
        assert len(filled) == len(set(filled)), f"{name}: {filled}"


def test_each_command_that_writes_results_tells_the_folder():
    for name, parser in parsers().items():
        if folder := next((one for one in parser._actions if "--out" in one.option_strings), None):
            text = Help("")._get_help_string(folder)
            assert folder.required or "artifacts" in text or name in text or "docs/" in text, (
                f"{name}: {text}"
            )


def test_ctrl_c_is_one_line_that_says_how_to_go_on(monkeypatch, caplog):
    program = "import sys; sys.argv = ['taxoprobe', 'analyse']; import analyses; raise KeyboardInterrupt"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode != 0
    assert done.stderr == f"taxoprobe: {starting.INTERRUPTED}\n"
    assert "the same command goes on" in done.stderr

    def interrupted(*given):
        raise KeyboardInterrupt

    monkeypatch.setattr("taxogen.__main__.main", interrupted)
    assert taxogen() == 130
    (record,) = caplog.records
    assert "the same command goes on" in record.message


def test_another_exception_keeps_its_traceback():
    program = "import sys; sys.argv = ['taxoprobe']; import analyses; raise RuntimeError('a fault')"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert "Traceback" in done.stderr
    assert "RuntimeError: a fault" in done.stderr


def test_no_help_is_wider_than_the_terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    texts = {name: parser.format_help() for name, parser in parsers().items()}
    texts |= {
        "taxoprobe": console.listing(),
        "analyse": console.question_listing("taxoprobe analyse QUESTION"),
    }
    texts["config"] += to_toml(Config())
    wide = {(name, line) for name, text in texts.items() for line in text.splitlines() if len(line) > 80}
    assert not wide
    assert "  erasure           How do answers change" in texts["analyse"]


def test_a_mistyped_flag_is_one_line_with_the_nearest(capsys):
    for name, parser in parsers().items():
        flag = max((one for action in parser._actions for one in action.option_strings), key=len)
        for given in ([flag + "s", "3"], [f"{flag}s=3"]):
            with pytest.raises(SystemExit) as end:
                parser.parse_args(given)
            (line,) = capsys.readouterr().err.splitlines()
            assert end.value.code == 2
            assert f": {flag}s is not known; did you mean {flag}? `{parser.prog} --help` lists all" in line, (
                name
            )
    with pytest.raises(SystemExit):
        taxogen_parser().parse_args(["train", "--preset", "studdy"])
    (line,) = capsys.readouterr().err.splitlines()
    assert "argument --preset: 'studdy' is not known; did you mean study? known: default, study" in line


def test_a_note_fits_the_terminal_and_is_one_line_elsewhere(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    text = "count: " + "a word " * 40
    note(text)
    assert capsys.readouterr().err.count("\n") == 1
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    note(text)
    said = capsys.readouterr().err
    record = logging.LogRecord("taxogen", logging.WARNING, "", 0, "%s", (text,), None)
    assert max(map(len, said.splitlines())) <= 80
    assert said.split() == text.split()
    assert Notes("%(message)s").format(record) == said.rstrip("\n")
