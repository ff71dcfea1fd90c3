"""Command lines that analyses share: which runs, which step of a saved projector, how many draws."""

import argparse
from pathlib import Path


def parser_of(name: str, about: str | None, draws: int, seed: int) -> argparse.ArgumentParser:
    """The parser of `python -m analyses.NAME`, which describes itself by the first line of its module."""
    parser = argparse.ArgumentParser(
        prog=f"python -m analyses.{name}", description=(about or "").splitlines()[0]
    )
    parser.add_argument(
        "--run", action="append", required=True, type=Path, help="a run directory; may be given again"
    )
    parser.add_argument("--step", type=int, help="of a saved projector (default: the last)")
    parser.add_argument("--draws", type=int, default=draws, help="of the bootstrap over leaf concepts")
    parser.add_argument("--seed", type=int, default=seed)
    return parser
