"""Names are names and not paths."""

import pytest

from taxogen.runs.names import plain_name


@pytest.mark.parametrize("name", ["a", "toy-1", "_x", "a.b+c=d", "9" * 128])
def test_a_plain_name_is_taken_as_it_is(name):
    assert plain_name(name, "--name") == name


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "../x", "a/b", "a\\b", "/a", "-x", ".x", "a b", "a\n", "a\0", "ä", "x" * 129, "a:b", "*"],
)
def test_a_name_that_is_no_plain_name_is_refused(name):
    with pytest.raises(ValueError, match=r"^--name takes a name of at most 128 of the characters") as caught:
        plain_name(name, "--name")
    assert len(str(caught.value).splitlines()) == 1
