"""Notebooks are run from top to bottom as Jupyter would, and what their cells show is written into them.

    python -m tests.docs.notebooks examples/words.ipynb      run, and write the outputs

Reads: the notebook. Writes: the notebook with its outputs, and in a temporary folder what its cells write.
"""

from __future__ import annotations

import ast
import base64
import contextlib
import io
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from probing.store import cache

DOTS = 90


def run(notebook: dict[str, Any], folder: Path) -> list[list[dict[str, Any]]]:
    """The outputs of each code cell, in the order of the cells, run in a folder and one namespace."""
    names: dict[str, Any] = {"__name__": "__main__"}
    with contextlib.chdir(folder):
        return [_outputs("".join(cell["source"]), names) for cell in code_cells(notebook)]


def code_cells(notebook: dict[str, Any]) -> list[dict[str, Any]]:
    """The cells that are run."""
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def _outputs(source: str, names: dict[str, Any]) -> list[dict[str, Any]]:
    """What a cell prints, then the value of the expression that it ends with."""
    body, shown = ast.parse(source).body, None
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(io.StringIO()):
        if body and isinstance(body[-1], ast.Expr):
            exec(compile(ast.Module(body[:-1], []), "cell", "exec"), names)
            shown = eval(compile(ast.Expression(body[-1].value), "cell", "eval"), names)
        else:
            exec(compile(source, "cell", "exec"), names)
    outputs: list[dict[str, Any]] = []
    if said.getvalue():
        outputs.append({"name": "stdout", "output_type": "stream", "text": _lines(said.getvalue())})
    if shown is not None:
        data: dict[str, Any] = {"text/plain": _lines(repr(shown))}
        if isinstance(shown, Figure):
            picture = io.BytesIO()
            shown.savefig(picture, format="png", dpi=DOTS, bbox_inches="tight", metadata={"Software": None})
            data["image/png"] = base64.b64encode(picture.getvalue()).decode() + "\n"
        elif hasattr(shown, "_repr_html_"):
            data["text/html"] = _lines(shown._repr_html_())
        outputs.append({"data": data, "metadata": {}, "output_type": "display_data"})
    return outputs


def _lines(text: str) -> list[str]:
    return text.replace(str(cache.folder()), "~/.cache/taxoprobe").splitlines(keepends=True)


def texts(outputs: list[dict[str, Any]]) -> str:
    """What outputs say, without pictures."""
    parts = [one.get("text") or one["data"].get("text/html") or one["data"]["text/plain"] for one in outputs]
    return "\n".join("".join(part) for part in parts)


def main(path: Path) -> None:
    """Runs a notebook and writes what its cells show into it."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as folder:
        for number, (cell, outputs) in enumerate(
            zip(code_cells(notebook), run(notebook, Path(folder)), strict=True), start=1
        ):
            cell |= {"execution_count": number, "outputs": outputs}
    path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + os.linesep, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
