"""Training with packed rows goes the way of training with rows one by one."""

import numpy as np
import pandas as pd
import pytest

from taxogen.models import packing as module
from taxogen.models.vlm import Vlm
from taxogen.runs.run import Run
from taxogen.stages import pipeline
from tests.world import toy_config, write_world

SEVERAL = ("data.ablation=none", "data.templates=kind,type,the_kind,called,the_called", "train.batch=16")


@pytest.fixture(scope="module")
def settings(tmp_path_factory, toy_lm):
    return write_world(tmp_path_factory.mktemp("world"), toy_lm)


@pytest.mark.parametrize("order", ["pictures", "items"])
def test_the_loss_curve_is_that_of_rows_one_by_one(tmp_path, settings, order, monkeypatch):
    monkeypatch.setenv("TAXOPROBE_CACHE", str(tmp_path / "cache"))
    sizes = []

    def packed(rows, prefix, pack=module.packed):
        layout = pack(rows, prefix)
        sizes.append((layout.ids.numel(), module.one_row_each(rows, prefix).ids.numel()))
        return layout

    monkeypatch.setattr(module, "packed", packed)
    curves, together = {}, 0
    for name in ("packed", "one by one"):
        if name == "one by one":
            together = len(sizes)
            monkeypatch.setattr(Vlm, "packs", False)
        run = Run.create(
            tmp_path / name, toy_config(settings, *SEVERAL, f"train.order={order}", "capture.at=last")
        )
        pipeline.train_run(run)
        curves[name] = pd.read_csv(run.file("training.csv"))["loss"]
    assert together == len(sizes)
    if order == "pictures":
        assert together == 12
        assert all(size < apart for size, apart in sizes)
    np.testing.assert_allclose(curves["packed"], curves["one by one"], atol=1e-3)
    assert curves["packed"].nunique() == 12
