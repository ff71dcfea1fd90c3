"""What a run shows of itself in a notebook: how far it is, what it is made of, and the next command."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from probing.store.notebook import facts
from taxogen.runs.setting import flatten

if TYPE_CHECKING:
    from taxogen.runs.run import Run


def run_html(run: Run) -> str:
    """A run as a table. Reads names of files and the config; no weights, scores or activations."""
    model = run.config.model
    made_of = model.vlm or f"{model.encoder} → {model.projector} → {model.lm} ({model.init})"
    default = dict(flatten(type(run.config)().to_dict()))
    other = {key: value for key, value in flatten(run.config.to_dict()) if value != default[key]}
    asked = sorted(path.parent.name for path in run.path.glob("analyses/*/*.parquet"))
    state, following = _state(run, "behaviour" in asked)
    return facts(
        f"Run {run.name}",
        {
            "path": run.path,
            "state": state,
            "model": made_of,
            "settings": ", ".join(
                f"{key}={_spelled(value)}" for key, value in other.items() if key != "name"
            ),
            "projector saved": _steps(run.snapshots),
            "captured": _steps(run.steps) + (" and words" if run.captured(None) else ""),
            "answered": ", ".join(dict.fromkeys(asked)),
            "next": following,
        },
    )


def _state(run: Run, answered: bool) -> tuple[str, str]:
    """How far a run is, and the command that goes on."""
    where = f"--run {_shown(run.path)}"
    if not run.complete:
        state = "prepared, not trained to its end" if run.closed else "not prepared"
        return state, f"taxoprobe train {where}"
    if not run.file("scores.h5").is_file():
        return "trained, not evaluated", f"taxoprobe evaluate {where}"
    question = (
        f"taxoprobe report {where} --out report" if answered else f"taxoprobe analyse behaviour {where}"
    )
    return "trained and evaluated", question


def _steps(steps: tuple[int, ...]) -> str:
    return f"step {', '.join(map(str, steps))}" if steps else ""


def _shown(path: Path) -> str:
    return f"'{path}'" if " " in str(path) else str(path)


def _spelled(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple | list) else str(value)
