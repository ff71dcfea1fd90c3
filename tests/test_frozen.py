"""Frozen tables: a toy run asked every question gives the numbers that it gave before, bit for bit.

`pytest tests/test_frozen.py --freeze` records them anew; CHANGELOG.md names every number that changed and why. On the
kind of processor that recorded them they are equal to the last bit, on another one to the precision of the model.
"""

import hashlib
import json
import platform
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from analyses import (
    behaviour,
    cohesion,
    emergence,
    erasure,
    geometry,
    knockout,
    layer_probes,
    lens,
    lm_knowledge,
    patching,
    text_alignment,
    visual_coherence,
)
from taxogen.runs.run import Run
from taxogen.stages.pipeline import evaluate_run, train_run
from tests.world import toy_config, toy_folder

FROZEN = Path(__file__).parent / "frozen"
RUNS = {
    "plain": ("train.steps=60", "data.ablation=random", "data.fraction=.5"),
    "across": ("train.steps=12", "data.ablation=random", "data.fraction=.5", "data.shuffle=across-plain"),
    "asked": ("train.steps=12", "data.task=yes_no"),
}
QUICK = ("--draws", "60")
COMMANDS = {
    "behaviour": (behaviour, ("plain", "across"), QUICK, "behaviour"),
    "behaviour_yes_no": (behaviour, ("asked",), QUICK, "behaviour"),
    "layer_probes": (layer_probes, ("plain",), (*QUICK, "--folds", "3", "--step", "last"), "layer_probes"),
    "layer_probes_across": (
        layer_probes,
        ("across",),
        (*QUICK, "--folds", "3", "--step", "last"),
        "layer_probes",
    ),
    "emergence": (emergence, ("plain", "across"), (), "emergence"),
    "cohesion": (cohesion, ("plain",), (*QUICK, "--step", "60"), "cohesion"),
    "text_alignment": (text_alignment, ("plain",), (*QUICK, "--step", "60"), "text_alignment"),
    "geometry": (geometry, ("plain",), (*QUICK, "--step", "60"), "geometry"),
    "lens": (lens, ("plain",), (*QUICK, "--every", "1"), "lens"),
    "knockout": (knockout, ("plain",), (*QUICK, "--window", "1"), "knockout"),
    "erasure": (
        erasure,
        ("plain",),
        (*QUICK, "--hypernym", "bird", "--hypernym", "fruit", "--folds", "2"),
        "erasure",
    ),
    "steering": (
        erasure,
        ("plain",),
        (*QUICK, "--steer", "--hypernym", "bird", "--direction", "mass_mean", "--folds", "2"),
        "steering",
    ),
    "patching": (patching, ("plain",), (*QUICK, "--pairs", "4"), "text-to-image-denoising"),
    "visual_coherence": (visual_coherence, ("plain", "across"), QUICK, "visual_coherence"),
    "lm_knowledge": (lm_knowledge, ("plain",), QUICK, "lm_knowledge"),
}
"""Table → the analysis, the runs that it is asked of, its options, the name of the table on disk."""
NEEDS = {"emergence": ("layer_probes", "layer_probes_across")}
FOLDER = {"steering": "erasure", "behaviour_yes_no": "behaviour", "layer_probes_across": "layer_probes"}


def processor() -> str:
    """What decides the last bits of a matrix product; several kinds of processor share a name, so some are computed."""
    kind = np.random.default_rng(0)
    digest = hashlib.sha256()
    for size in (8, 33, 300):
        left, right = kind.standard_normal((2, size, size))
        for dtype in (np.float32, np.float64):
            rows, columns = left.astype(dtype), right.astype(dtype)
            digest.update((rows @ columns).tobytes())
            digest.update(np.linalg.eigvalsh(rows + rows.T).tobytes())
            digest.update(
                torch.nn.functional.linear(torch.tensor(rows), torch.tensor(columns)).numpy().tobytes()
            )
            digest.update(torch.tensor(rows).softmax(-1).numpy().tobytes())
    capability = torch.backends.cpu.get_cpu_capability()
    return f"{platform.machine()} {capability} torch {torch.__version__} products {digest.hexdigest()[:16]}"


@pytest.fixture(scope="module")
def made(tmp_path_factory, asking_lm):
    """Table by name, as its command line writes it about the toy runs; each run and table is made when it is needed."""
    folder = tmp_path_factory.mktemp("frozen")
    with toy_folder(folder, asking_lm) as settings:

        @cache
        def trained(name: str) -> str:
            run = Run.create(Path(name), toy_config(settings, *RUNS[name]))
            train_run(run)
            evaluate_run(run)
            return name

        @cache
        def table(name: str) -> pd.DataFrame:
            for before in NEEDS.get(name, ()):
                table(before)
            analysis, runs, options, stem = COMMANDS[name]
            analysis.main([*(part for run in runs for part in ("--run", trained(run))), *options])
            return pd.read_parquet(Path(runs[0]) / "analyses" / FOLDER.get(name, name) / f"{stem}.parquet")

        yield table


@pytest.mark.parametrize("name", COMMANDS)
def test_the_table_is_what_it_was(made, name, request):
    path = FROZEN / f"{name}.parquet"
    if request.config.getoption("--freeze"):
        FROZEN.mkdir(exist_ok=True)
        made(name).to_parquet(path, index=False, compression="zstd")
        (FROZEN / "recorded.json").write_text(json.dumps({"processor": processor()}, indent=1) + "\n")
    expected, found = pd.read_parquet(path), made(name)
    same = json.loads((FROZEN / "recorded.json").read_text())["processor"] == processor()
    assert list(found.columns) == list(expected.columns)
    assert len(found) == len(expected)
    for column in expected:
        if same or (expected[column].dtype.kind not in "fc" and column != "note"):
            pd.testing.assert_series_equal(found[column], expected[column], check_exact=True)
    if not same:  # float32 through a model, then ranks and quantiles of few draws: most numbers agree to 1e-3
        numbers = [column for column in ("value", "lower", "upper") if column in expected]
        near = np.isclose(found[numbers], expected[numbers], rtol=1e-3, atol=1e-3, equal_nan=True)
        assert near.mean() > 0.95
