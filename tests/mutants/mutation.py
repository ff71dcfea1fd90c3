"""One small fault: a span of a source text and what stands there instead."""

from __future__ import annotations

import ast
from dataclasses import dataclass


@dataclass(frozen=True)
class Mutation:
    """One fault: the bytes `start` to `end` of a text are exchanged for another text.

    Attributes:
        start: first byte that is replaced.
        end: the byte after the last.
        text: what stands there instead.
        kind: the operator's name.
        line: line of the first byte, from 1.
        function: dotted name of the function or class around it, `module` outside of any.
    """

    start: int
    end: int
    text: str
    kind: str
    line: int
    function: str

    def apply(self, source: str) -> str:
        """The text with the fault in it."""
        whole = source.encode()
        return (whole[: self.start] + self.text.encode() + whole[self.end :]).decode()

    def shown(self, source: str) -> tuple[str, str]:
        """The lines around the span without and with the fault, each as one line."""
        whole = source.encode()
        first = whole.rfind(b"\n", 0, self.start) + 1
        last = whole.find(b"\n", self.end)
        head, tail = whole[first : self.start], whole[self.end : last if last >= 0 else len(whole)]
        pair = (head + whole[self.start : self.end] + tail, head + self.text.encode() + tail)
        before, after = (" ".join(part.decode().split()) for part in pair)
        return (before.partition(" raise ")[0] + " raise …" if self.kind == "guard" else before), after

    def changes(self, source: str) -> bool:
        """Whether the text still parses with the fault in it and means something else."""
        try:
            return ast.dump(ast.parse(self.apply(source))) != ast.dump(ast.parse(source))
        except SyntaxError:
            return False
