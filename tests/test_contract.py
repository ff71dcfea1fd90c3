"""The contract of every registered analysis: declared once, asked of toy runs, redrawn, asked again, refused.

A new analysis is tested here without an edit: the registry names it.
"""

import inspect
import json
import re
import sys
import textwrap
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.text import Text
from tiny_dictionaries import drawn, write_sae_lens
from transformers import LlamaModel

import analyses
from analyses.frame import command_line, registry
from analyses.frame.analysis import Takes
from analyses.frame.console import main as console
from analyses.inputs.subject import Subject
from analyses.report import write as write_report
from probing.stats import DRAWS
from taxogen.runs.bench import open_bench
from taxogen.runs.run import Run
from taxogen.stages.pipeline import evaluate_run, train_run
from tests.analyses.colour_vision import too_near
from tests.analyses.test_published import write_release
from tests.world import toy_config, toy_folder

NAMES = tuple(registry.questions())
OF_RUNS = tuple(name for name in NAMES if registry.load(name).takes is not Takes.NO_RUN)
QUICK = {"draws": "40", "pairs": "4", "folds": "2", "permutations": "19"}
"""Values of options that many analyses have, so that toy runs take seconds."""
NO_WORD = re.compile(r"\bnan\b|\binf\b|−never", re.IGNORECASE)
"""What no summary and no figure says: an interval that is not there is said in words."""
BEFORE = {"pooling": ("patching",)}
"""What a question reads of each run by default, beside what it always needs."""
PATCHES = ("model.projector=gelu-mlp", "model.encoder_tokens=4", "model.image_tokens=4")
"""Settings of a run whose picture tokens have a place in the picture."""
OWN = {
    "erasure": ("--hypernym", "bird", "--hypernym", "fruit"),
    "interchange": ("--steps", "3"),
    "knockout": ("--window", "1"),
    "lm_knowledge": (),
    "sparse_features": ("--dictionary", "dictionary"),
}


@pytest.fixture(scope="module")
def toy(tmp_path_factory, asking_lm):
    """A folder with two trained, captured and evaluated completion runs, a yes/no run, and one never trained."""
    folder = tmp_path_factory.mktemp("contract")
    with toy_folder(folder, asking_lm) as settings:
        own = {"plain": PATCHES, "across": ("data.shuffle=across", *PATCHES), "asked": ("data.task=yes_no",)}
        for name, more in own.items():
            run = Run.create(Path(name), toy_config(settings, *more))
            train_run(run)
            evaluate_run(run)
        open_bench(Run.create(Path("untrained"), toy_config(settings)))
        width = Run.open("plain").store(None, "text").read("blocks.1.hook_resid_post", "last").shape[1]
        write_sae_lens(Path("dictionary"), drawn(width, 2 * width))
        Path("released").mkdir()
        write_release(Path("released"))
        Path("foreign").mkdir()
        Path("foreign/config.json").write_text('{"hidden_size": 768}', encoding="utf-8")
        yield folder


def arguments(name: str, *runs: str) -> list[str]:
    """A quick command line of an analysis about some runs, or about what it reads without one."""
    analysis = registry.load(name)
    known = {field.name: flag for flag, field in command_line.flags_of(analysis.options).items()}
    quick = [part for option, value in QUICK.items() if option in known for part in (known[option], value)]
    given = [part for run in runs for part in ("--run", run)]
    if analysis.takes is Takes.NO_RUN:
        given = ["--data", "released", "--out", name]
    return [*given, *quick, *OWN.get(name, ())]


def asked(name: str, *runs: str) -> Path:
    """The folder of the results of an analysis, asked now, and what it needs before."""
    analysis = registry.load(name)
    for before in (*analysis.needs, *BEFORE.get(name, ())):
        for run in runs:
            if not analysis_folder(before, run).is_dir():
                asked(before, run)
    analysis.main(arguments(name, *runs))
    return analysis_folder(name, runs[0]) if analysis.takes is not Takes.NO_RUN else Path(name)


def analysis_folder(name: str, run: str) -> Path:
    return Path(run) / "analyses" / name


def table_in(name: str, folder: Path) -> tuple[str, pd.DataFrame]:
    """The name of the main table in a results folder, and the table."""
    analysis = registry.load(name)
    stem = analysis.table_name(analysis.options()) if analysis.table_name else name
    return stem, pd.read_parquet(folder / f"{stem}.parquet")


@pytest.fixture(scope="module")
def answered(toy):
    """Name → folder of results, for every analysis asked of the runs that it takes."""
    folders: dict[str, Path] = {}

    def once(name: str) -> Path:
        if name not in folders:
            several = registry.load(name).takes is not Takes.EACH_RUN
            folders[name] = asked(name, *(("plain", "across") if several else ("plain",)))
        return folders[name]

    return once


def refused(capsys, name: str, *given: str) -> str:
    """The one line with which a command line is refused."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as end:
        registry.load(name).main(list(given))
    said = capsys.readouterr().err.strip().splitlines()
    assert end.value.code == 2
    lines = [line for line in said if line.startswith("python -m ")]
    assert len(lines) == 1
    assert "Traceback" not in "".join(said)
    return lines[0]


@pytest.mark.parametrize("name", NAMES)
def test_it_is_declared_once_and_its_help_shows_a_real_example(name, capsys):
    analysis = registry.load(name)
    assert analysis.name == name
    assert analysis.question == registry.questions()[name]
    with pytest.raises(SystemExit) as end:
        analysis.main(["--help"])
    said = capsys.readouterr().out
    assert end.value.code == 0
    assert analysis.question in " ".join(said.split())
    assert analysis.example in " ".join(said.replace("\\\n", "").split())  # as a shell joins its lines
    words = analysis.example.split()
    assert words[:3] == ["python", "-m", f"analyses.{name}"]
    given = analysis.parser().parse_args(words[3:])
    command_line.options_from(analysis.options, given)
    lines = command_line.help_of(analysis.options)
    assert all(lines[field.name] for field in command_line.flags_of(analysis.options).values())
    default = analysis.options()
    assert getattr(default, "seed", 0) == 0
    assert getattr(default, "draws", DRAWS) == DRAWS
    assert inspect.unwrap(analysis.compute) is not analysis.compute, "@one_or_several is not on compute"


@pytest.mark.parametrize("name", NAMES)
def test_its_table_has_intervals_and_n_and_its_figures_redraw_from_the_parquet_alone(name, answered):
    folder, analysis = answered(name), registry.load(name)
    stem, table = table_in(name, folder)
    assert {"analysis", "target", "measure", "value", "lower", "upper", "n"} <= set(table.columns)
    assert set(table["analysis"]) <= {stem, "layer_probes" if name == "emergence" else name, name}
    with_interval = table[table["lower"].notna() & np.isfinite(table["value"])]
    assert len(with_interval)
    assert (with_interval["lower"] <= with_interval["upper"]).all()
    assert (with_interval["n"] > 0).all()
    figures = analysis.draw(table)
    assert figures
    for figure_name, figure in figures.items():
        saved = figure_name if stem == name else f"{stem}-{figure_name}"
        assert {(folder / f"{saved}.{kind}").is_file() for kind in ("png", "svg")} == {True}
        assert any(axes.has_data() for axes in figure.axes)
        assert not too_near(figure)
    assert analysis.summary(table).strip()
    texts = [text.get_text() for figure in figures.values() for text in figure.findobj(Text)]
    without = analysis.summary(table.assign(lower=np.nan, upper=np.nan)) if name != "published" else ""
    assert not [text for text in (analysis.summary(table), without, *texts) if NO_WORD.search(text)]


@pytest.mark.parametrize("name", NAMES)
def test_a_second_start_gives_the_same_bytes_and_runs_the_model_only_to_open_it(
    name, answered, toy, monkeypatch
):
    folder = answered(name)
    if name == "emergence":  # which reads what others have answered since
        asked(name, "plain", "across")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.suffix in (".parquet", ".npz")}
    passes, forward = [0], LlamaModel.forward

    def counted(self, *args, **options):
        passes[0] += 1
        return forward(self, *args, **options)

    monkeypatch.setattr(LlamaModel, "forward", counted)
    Subject.of(Run.open("plain"))
    opening = passes[0]
    passes[0] = 0
    several = registry.load(name).takes is not Takes.EACH_RUN
    kinds = (".parquet", ".npz")
    times = {path: path.stat().st_mtime_ns for path in folder.glob("parts/**/*") if path.suffix in kinds}
    asked(name, *(("plain", "across") if several else ("plain",)))
    assert {path: path.read_bytes() for path in before} == before
    assert {path: path.stat().st_mtime_ns for path in times} == times
    if times:
        assert passes[0] <= opening


@pytest.mark.parametrize("name", OF_RUNS)
@pytest.mark.parametrize("run", ["nowhere", "untrained", "foreign"])
def test_missing_untrained_and_foreign_runs_are_refused_in_one_line(name, run, toy, capsys):
    said = refused(capsys, name, *arguments(name, run))
    assert run in said
    assert "`python -m " in said or run == "foreign"
    assert not (Path(run) / "analyses" / name / f"{name}.parquet").exists()


@pytest.mark.parametrize("name", OF_RUNS)
def test_one_run_given_twice_is_refused(name, toy, capsys):
    assert "given twice" in refused(capsys, name, *arguments(name, "plain", "across", "./plain"))


@pytest.mark.parametrize("name", NAMES)
def test_a_value_given_twice_is_refused_by_its_flag(name):
    options = registry.load(name).options
    for flag, field in command_line.flags_of(options).items():
        if isinstance(field.default, tuple) and command_line.role_of(field) != command_line.PARTNER:
            twice = options(**{field.name: ("a", "b", "b")})
            with pytest.raises(ValueError, match=f"^{flag} b was asked for twice; name each once$"):
                command_line.refuse_repeated(twice)
            command_line.refuse_repeated(options(**{field.name: ("a", "b")}))


@pytest.mark.parametrize("name", OF_RUNS)
def test_a_yes_no_run_works_or_is_refused_before_anything_is_computed(name, toy, capsys):
    code = 0
    try:
        asked(name, "asked")
    except SystemExit as end:
        code = end.code
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("python -m ")]
    if code:
        assert code == 2
        assert len(said) == 1
        assert "yes_no" in said[0]
        assert not list(analysis_folder(name, "asked").rglob("*.parquet"))
    else:
        assert not said
        assert len(table_in(name, analysis_folder(name, "asked"))[1])


def test_a_misspelt_question_is_refused_with_the_nearest_one(capsys):
    with pytest.raises(KeyError, match="did you mean 'lens'"):
        registry.load("lense")
    assert console(["analyse", "lense"]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


HELLO = '''
    """How many test pictures of each leaf concept a run shows.

    Reads: scores.h5 of each run. Writes: analyses/hello/ in each run.
    """

    from dataclasses import dataclass

    import pandas as pd
    from matplotlib.figure import Figure

    from analyses.frame.analysis import Analysis, Result
    from analyses.frame.command_line import Resampling, option
    from probing.stats import ClusterMean, draw_weights, mean_estimate
    from taxogen.answers.evaluate import Scores


    @dataclass(frozen=True, kw_only=True)
    class Options(Resampling):
        """What is counted.

        Attributes:
            least: leaves with fewer pictures are left out
        """

        least: int = option(1)


    def compute(runs, options):
        leaves = Scores.read(runs[0]).image["leaf"]
        counts = leaves.value_counts()
        counts = counts[counts >= options.least].sort_index()
        statistic = ClusterMean(counts.to_numpy(float)[:, None], counts.index.to_numpy(str))
        mean = mean_estimate(statistic, draw_weights(len(counts), options.draws, options.seed))
        row = {"run": runs[0].name, "analysis": "hello", "target": "mean", "measure": "pictures", **mean.__dict__}
        return Result(pd.DataFrame([row]))


    def draw(table):
        figure = Figure()
        figure.subplots().plot(table["n"], table["value"], "o")
        return {"hello": figure}


    def summary(table):
        return f"{table['value'].iloc[0]:.2f} pictures a leaf"


    ANALYSIS = Analysis("hello", __doc__, Options, compute, draw, summary, example="python -m analyses.hello --run R")
    main = ANALYSIS.main
'''


def test_a_new_analysis_is_two_files_and_appears_everywhere(toy, tmp_path, monkeypatch, capsys):
    folder = tmp_path / "hello"
    folder.mkdir()
    (folder / "__init__.py").write_text(textwrap.dedent(HELLO).lstrip(), encoding="utf-8")
    (folder / "__main__.py").write_text("from analyses.hello import main\n\nmain()\n", encoding="utf-8")
    monkeypatch.setattr(analyses, "__path__", [*analyses.__path__, str(tmp_path)])
    registry.questions.cache_clear()
    try:
        assert "hello" in registry.questions()
        assert console(["analyse"]) == 0
        assert "How many test pictures of each leaf concept" in capsys.readouterr().out
        with pytest.raises(SystemExit):
            registry.load("hello").main(["--help"])
        assert "--least LEAST" in capsys.readouterr().out
        folder = asked("hello", "plain")
        _, table = table_in("hello", folder)
        page = write_report(tmp_path / "page", [Run.open("plain")], {}).path.read_text(encoding="utf-8")
        assert "How many test pictures of each leaf concept" in page
        assert f"{table['value'].iloc[0]:.2f} pictures a leaf" in page
        refused(capsys, "hello", *arguments("hello", "nowhere"))
    finally:
        registry.questions.cache_clear()
        sys.modules.pop("analyses.hello", None)


def test_every_question_reaches_the_report(answered, tmp_path):
    for name in OF_RUNS:
        answered(name)
    registry.load("erasure").main(
        [
            "--run",
            "plain",
            "--draws",
            "40",
            "--folds",
            "2",
            "--hypernym",
            "bird",
            "--steer",
            "--direction",
            "mass_mean",
        ]
    )
    page = write_report(tmp_path / "page", [Run.open("plain"), Run.open("across")], {"train": 1.0})
    text = page.path.read_text(encoding="utf-8")
    missing = [name for name in OF_RUNS if registry.questions()[name] not in text]
    assert not missing
    said = re.sub(r"<(script|svg|code|style).*?</\1>|<[^>]*>", " ", text, flags=re.DOTALL)
    assert not NO_WORD.search(said)
    assert not re.findall(r"`|hook_\w+|(?<![\w./=-])[a-z]+(?:_[a-z]+)+(?![\w./=])", said)
    assert "Not asked of these runs yet" not in text
    assert "Steering towards a hypernym" in text
    assert json.dumps(sorted(page.tables)) == json.dumps(
        sorted(name for name in OF_RUNS if registry.load(name).light)
    )
