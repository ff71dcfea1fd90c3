"""`python -m analyses.figures`: the figures of a table from it alone; what is no such table is refused in one line."""

import pandas as pd
import pytest

from analyses.figures import main
from analyses.frame import tables
from analyses.geometry.figures import draw
from probing.store import records


def table() -> pd.DataFrame:
    rows = [
        tables.row(name, 3.0 + layer, 9, site=f"blocks.{layer}.hook_resid_post", span="cue", modality="text")
        for layer in range(4)
        for name in ("intrinsic_dimension", "participation_ratio")
    ]
    return tables.table([{**row, "step": -1} for row in rows], "geometry", 0)


def refused(capsys, *words) -> str:
    with pytest.raises(SystemExit) as end:
        main([str(word) for word in words])
    assert end.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line.removeprefix("python -m analyses.figures: ")


def test_a_table_under_any_name_is_redrawn_beside_it(tmp_path, capsys):
    path = tmp_path / "renamed.parquet"
    table().to_parquet(path, index=False)
    main([str(path), "--style", "paper", "--width", "one"])
    folder = tmp_path / "figures-paper-one"
    assert str(folder) in capsys.readouterr().out
    assert list(draw(table())) == ["dimension"]
    names = {f"renamed-dimension.{kind}" for kind in ("pdf", "png", "svg", "txt")}
    assert {file.name for file in folder.iterdir()} == {*names, "made.json"}
    made_from = records.made_from(folder / "renamed-dimension.pdf")
    assert made_from == {"analysis": "geometry", "table": {path.name: records.sha256(path)}}


def test_the_record_of_a_table_says_whose_it_is_and_that_it_is_whole(tmp_path, capsys):
    path = tmp_path / "map.parquet"
    tables.save(table().assign(analysis="another"), tmp_path, "map", {"analysis": "geometry"})
    main([str(path), "--out", str(tmp_path / "out")])
    assert (tmp_path / "out/map-dimension.svg").is_file()
    path.write_bytes(path.read_bytes() + b"0")
    capsys.readouterr()
    assert "map.parquet is damaged" in refused(capsys, path)


@pytest.mark.parametrize(
    ("name", "frame", "said"),
    [
        ("other.parquet", pd.DataFrame({"x": [1]}), "is no table of an analysis: its columns are x"),
        ("empty.parquet", table()[:0], "is no table of an analysis: it is empty"),
        ("own.parquet", table().assign(analysis="mine"), "is a table of 'mine', which is no analysis here; known: "),
        ("cohesion.parquet", table().drop(columns="layer"), "is of cohesion, but has not the rows"),
        ("none.parquet", table().assign(measure="another"), "is of geometry, but has not the rows"),
    ],
)  # fmt: skip
def test_other_tables_are_refused(tmp_path, capsys, name, frame, said):
    frame.to_parquet(tmp_path / name, index=False)
    assert refused(capsys, tmp_path / name).startswith(f"{tmp_path / name} {said}")


def test_what_is_no_table_and_an_unknown_style_are_refused(tmp_path, capsys):
    path = tmp_path / "table.csv"
    assert "table.csv is no file" in refused(capsys, path)
    table().to_csv(path)
    assert "table.csv is no parquet file" in refused(capsys, path)
    assert "style 'poster' was asked for; known: screen, paper, talk" in refused(
        capsys, path, "--style", "poster"
    )
    assert "is no file" in refused(capsys, tmp_path)
