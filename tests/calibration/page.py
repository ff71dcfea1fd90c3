"""The page docs/statistics.md: every check with what was measured."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tests.calibration.check import LIMITS, Check, Rate
from tests.calibration.registry import CHECKS, ROOMS, UNCHECKED

PAGE = Path(__file__).parents[2] / "docs" / "statistics.md"

_HEAD = """# Statistics: what every printed number assumes, and how it was checked

    make calibration

draws worlds in which the truth is known, prints about each what the tool would print, and counts: how often a 95 %
interval covers the truth, how often a test or band at .05 finds something where nothing is. This page is made from
what it measured (`python -m tests.calibration` writes it; a test holds it to `tests/calibration/measured/`). Rates
stand with their Monte-Carlo standard error. An interval must cover {low:.2f} to {high:.2f}, a test must reject
{few:.2f} to {many:.2f}, and a contrast of which the power is .80 must be found in {weak:.2f} to {strong:.2f}; what may
err on the safe side is marked, with the reason. All checks together took {minutes:.0f} minutes of one core.

Worlds look like the tool's own: leaf concepts (351 unless said otherwise) under the bundled 34 overlapping
hypernyms, states with a spiked spectrum, one to three pictures a leaf. Where a world does not say what is true, the
truth is the mean of the printed number over all of its draws: the interval is asked whether it covers what *other
leaves of the same source* would give.
"""
_WAITING = """
## Not measured yet

Checks that are written, and whose rates this page does not have:

"""
_UNCHECKED = """
## Printed without a check

Numbers with limits, or p, whose rate nobody has counted, or that do not hold as often as they say:

"""


def page() -> str:
    """The text of the page."""
    rates = {check.name: rate for check in CHECKS if (rate := Rate.read(check))}
    minutes = sum(rate.seconds for rate in rates.values()) / 60
    (low, high), (few, many), (weak, strong) = (
        LIMITS[kind] for kind in ("coverage", "false positives", "power")
    )
    limits = {"low": low, "high": high, "few": few, "many": many, "weak": weak, "strong": strong}
    parts = [_HEAD.format(**limits, minutes=minutes)]
    for title, checks in ROOMS.items():
        parts.append(f"\n## {title}\n")
        parts += _section(checks, rates)
    if waiting := [check for check in CHECKS if check.name not in rates]:
        parts.append(_WAITING)
        parts += [f"- {check.says}: {check.world} (`{check.name}`)\n" for check in waiting]
    parts.append(_UNCHECKED)
    of_reason: dict[str, list[str]] = {}
    for pattern, why in UNCHECKED.items():
        of_reason.setdefault(why, []).append(f"`{pattern}`")
    parts += [f"- {', '.join(patterns)}: {why}\n" for why, patterns in of_reason.items()]
    return "".join(parts)


def _section(checks: tuple[Check, ...], rates: dict[str, Rate]) -> Iterator[str]:
    """A table of what was measured, then what each number assumes."""
    checks = tuple(check for check in checks if check.name in rates)
    if not checks:
        return
    yield "\n| printed | world | should be | is | worlds |\n|---|---|---|---|---|\n"
    for check in checks:
        rate = rates[check.name]
        nominal = {"coverage": "covers .95", "power": "finds .80"}.get(check.kind, "finds .05")
        safe = (
            " or more"
            if check.conservative and check.kind == "coverage"
            else " or less"
            if check.conservative
            else ""
        )
        yield (
            f"| {check.says} | {check.world} | {nominal}{safe} | {_short(rate.value)} ± {_short(rate.error)} "
            f"| {rate.trials} |\n"
        )
    yield "\n"
    assumed: dict[str, list[str]] = {}
    for check in checks:
        text = check.assumes + (f" Conservative: {check.conservative}" if check.conservative else "")
        assumed.setdefault(text, []).append(check.says)
    for text, said in assumed.items():
        yield f"- **{'; '.join(dict.fromkeys(said))}.** {text}\n"


def _short(number: float) -> str:
    """`.952`, as the other pages write rates."""
    return f"{number:.3f}".removeprefix("0")
