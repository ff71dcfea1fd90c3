"""An extension of griffe: examples in docstrings (`>>> …` up to an empty line) become blocks of code."""

import re
from typing import Any

from griffe import Extension, Object

EXAMPLE = re.compile(r"^( *)>>> .*\n?(?:^ *\S.*\n?)*", flags=re.MULTILINE)


class DoctestBlocks(Extension):
    """Fences every example of a docstring."""

    def on_object(self, *, obj: Object, **_: Any) -> None:
        """Rewrites the docstring of an object once it is read."""
        if obj.docstring and ">>> " in obj.docstring.value:
            obj.docstring.value = EXAMPLE.sub(_fenced, obj.docstring.value)


def _fenced(match: re.Match[str]) -> str:
    indent = match[1]
    return f"{indent}```pycon\n{match[0].rstrip()}\n{indent}```\n"
