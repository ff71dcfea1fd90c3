"""The message of a refusal, for tests of settings."""

from collections.abc import Callable

import pytest


def refusal(make: Callable[..., object], *arguments: object) -> str:
    """The one line in which a call is refused."""
    with pytest.raises((ValueError, KeyError)) as caught:
        make(*arguments)
    text = caught.value.args[0]
    assert len(text.splitlines()) == 1
    return text
