"""The page docs/statistics.md: every check with what was measured."""

from __future__ import annotations

from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "statistics.md"


def page() -> str:
    """The text of the page."""
    raise NotImplementedError
