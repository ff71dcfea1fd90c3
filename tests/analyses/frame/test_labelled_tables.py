import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analyses.frame.tables import row, table, to_xarray

FROZEN = sorted((Path(__file__).parents[2] / "frozen").glob("*.parquet"))


def toy() -> pd.DataFrame:
    places = {"span": "cue", "modality": "image", "target": "bird"}
    rows = [
        row(measure, value, n=4, step=step, site=site, **places)
        for step in (0, 12)
        for site in ("hook_embed", "blocks.0.hook_resid_post", "ln_final.hook_normalized")
        for measure, value in (("auroc", 0.5 + step / 100), ("control", 0.4))
        if (step, measure) != (0, "control")
    ]
    return table(rows, "layer_probes", 0)


def test_a_missing_xarray_is_one_line_that_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "xarray", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'taxoprobe\[xarray\]'"):
        to_xarray(toy())


class TestWithXarray:
    @pytest.fixture(autouse=True)
    def _needs_xarray(self):
        pytest.importorskip("xarray")

    def test_axes_are_the_labels_that_tell_rows_apart(self):
        made = to_xarray(toy())
        assert dict(made.sizes) == {"step": 2, "site": 3, "measure": 2}
        assert made["layer"].dims == ("site",)
        assert np.array_equal(made["layer"], [-1, 0, np.nan], equal_nan=True)
        assert made["span"].item() == "cue"
        of_bird = made.sel(step=12, measure="auroc")["value"]
        assert of_bird.values.tolist() == [0.62, 0.62, 0.62]
        assert np.isnan(made["value"].sel(step=0, measure="control")).all()
        assert made["n"].sel(step=0, measure="auroc").values.tolist() == [4, 4, 4]

    @pytest.mark.parametrize("path", FROZEN, ids=[path.stem for path in FROZEN])
    def test_every_number_of_a_table_stands_at_its_labels(self, path):
        rows = pd.read_parquet(path)
        made = to_xarray(rows)
        assert "step" in made.dims or rows.get("step", pd.Series([0])).nunique() == 1
        places = {name: pd.factorize(rows[name], use_na_sentinel=False)[0] for name in made["value"].dims}
        for number in ("value", "lower", "upper", "n"):
            at = np.array(made[number])[tuple(places.values())]
            assert np.array_equal(at, rows[number].astype(float), equal_nan=True), number
            assert np.isfinite(np.array(made["n"])).sum() == rows["n"].notna().sum()
        for name, coordinate in made.coords.items():
            spread = coordinate.broadcast_like(made["value"]).transpose(*made["value"].dims)
            stored = pd.Series(spread.values[tuple(places.values())])
            assert stored.astype(str).tolist() == rows[name].astype(str).tolist(), name

    def test_what_gives_no_array_is_refused(self):
        with pytest.raises(KeyError, match="no column 'layers'; it has run, analysis, step"):
            to_xarray(toy(), dims=("layers",))
        with pytest.raises(
            ValueError, match=r"9 of 9 rows are alike in site; they differ in step, measure: choose rows"
        ):
            to_xarray(toy(), dims=("site",))
        with pytest.raises(
            ValueError, match=r"18 of 18 rows are alike in step, site, layer, measure; drop them"
        ):
            to_xarray(pd.concat([toy(), toy()]))
        with pytest.raises(ValueError, match="the 1 rows differ in no label"):
            to_xarray(toy().head(1))
        wide = pd.DataFrame({"a": range(4000), "b": range(4000), "value": 0.0})
        with pytest.raises(
            ValueError, match=r"4000 rows would stand in an array of 4000 × 4000 places \(a, b\)"
        ):
            to_xarray(wide, dims=("a", "b"))
        assert dict(to_xarray(wide).sizes) == {"a": 4000}
