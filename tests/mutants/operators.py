"""Mutations of a source text: each is one small fault, with the exact span of the text that it replaces.

Left alone: docstrings and free text, annotations and type aliases, imports, decorators, `raise` and `assert` statements
(a guard as a whole is a mutation), calls that only talk (progress, warnings, captions), and the looks of figures
(sizes, widths, colours).
"""

from __future__ import annotations

import ast
import re
from itertools import pairwise

from tests.mutants.mutation import Mutation

COMPARISONS = {"<": "<=", "<=": "<", ">": ">=", ">=": ">", "==": "!=", "!=": "=="}
ARITHMETIC = {
    ast.Add: ("+", "-"),
    ast.Sub: ("-", "+"),
    ast.Mult: ("*", "/"),
    ast.Div: ("/", "*"),
    ast.BitAnd: ("&", "|"),
    ast.BitOr: ("|", "&"),
}
EXTREMA = {
    "min": "max",
    "minimum": "maximum",
    "nanmin": "nanmax",
    "argmin": "argmax",
    "any": "all",
    "floor": "ceil",
}
EXTREMA |= {new: old for old, new in EXTREMA.items()}
WORDS = {
    "image": "text",
    "lower": "upper",
    "seen": "held_out",
    "clean": "corrupted",
    "knocked out": "placebo",
    "within": "across",
    "noun": "cue",
    "train": "test",
}
WORDS |= {new: old for old, new in WORDS.items()}
COLUMNS = {"value": "lower", "lower": "upper", "upper": "lower", "n": "value"}
SILENT = {"print", "tqdm", "warn", "warning", "info", "debug", "cast", "isinstance", "caption", "footnote"}
SYMMETRIC = {
    *EXTREMA,
    "zip",
    "isclose",
    "allclose",
    "equal",
    "array_equal",
    "hasattr",
    "getattr",
    "setattr",
    "issubclass",
}
LOOKS = re.compile(
    r"(fig|font|label|title|marker|cap)size|ms|lw|s|.*linewidths?|alpha|colou?r|.*_ratios|.*pad|zorder|rotation|loc"
    r"|bbox_to_anchor|ncols|dpi|[wh]space|mininterval"
)
ADDITIVE = ast.Name | ast.Attribute | ast.Call | ast.Subscript | ast.BinOp


def mutations(source: str) -> list[Mutation]:
    """Every mutation of a module, in the order of its text."""
    visitor = _Visitor(source)
    visitor.visit(ast.parse(source))
    return sorted(visitor.mutations, key=lambda mutation: (mutation.start, mutation.end, mutation.text))


class _Visitor(ast.NodeVisitor):
    """Walks what counts as code and notes a mutation wherever an operator applies."""

    def __init__(self, source: str):
        self.bytes = source.encode()
        lines = self.bytes.splitlines(keepends=True)
        self.starts = [0]
        for line in lines:
            self.starts.append(self.starts[-1] + len(line))
        self.scope: list[str] = []
        self.mutations: list[Mutation] = []

    def span(self, node: ast.AST) -> tuple[int, int]:
        return (
            self.starts[node.lineno - 1] + node.col_offset,
            self.starts[node.end_lineno - 1] + node.end_col_offset,
        )

    def text(self, node: ast.AST) -> str:
        start, end = self.span(node)
        return self.bytes[start:end].decode()

    def note(self, kind: str, start: int, end: int, text: str) -> None:
        line = self.bytes.count(b"\n", 0, start) + 1
        self.mutations.append(Mutation(start, end, text, kind, line, ".".join(self.scope) or "module"))

    def between(self, left: ast.AST, right: ast.AST, old: str, new: str, kind: str) -> None:
        """Notes the exchange of the operator that stands between two operands."""
        start, end = self.span(left)[1], self.span(right)[0]
        gap = self.bytes[start:end].decode()
        place = re.search(rf"(?<![\w<>=!*/]){re.escape(old)}(?![\w<>=*/])", gap)
        if place and "#" not in gap:
            self.note(kind, start + place.start(), start + place.end(), new)

    # What is left alone, wholly or in part

    def _skip(self, node: ast.AST) -> None:
        """Nothing in here is mutated."""

    visit_Import = visit_ImportFrom = visit_Raise = visit_Assert = visit_JoinedStr = visit_arg = _skip

    def visit_Expr(self, node: ast.Expr) -> None:
        if not isinstance(node.value, ast.Constant):
            self.visit(node.value)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self.visit(node.value)

    def visit_Assign(self, node: ast.Assign) -> None:
        name = node.targets[0].id if isinstance(node.targets[0], ast.Name) else ""
        alias = not self.scope and name[:1].isupper() and not name.isupper()
        if name != "__all__" and not alias:
            self.generic_visit(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self.scope.append(node.name)
        for part in (*node.args.defaults, *filter(None, node.args.kw_defaults), *node.body):
            self.visit(part)
        self.scope.pop()

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self.scope.append(node.name)
        for part in node.body:
            self.visit(part)
        self.scope.pop()

    # The operators

    def visit_Compare(self, node: ast.Compare) -> None:
        symbols = {ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.Eq: "==", ast.NotEq: "!="}
        for left, op, right in zip([node.left, *node.comparators], node.ops, node.comparators):
            if symbol := symbols.get(type(op)):
                self.between(left, right, symbol, COMPARISONS[symbol], "comparison")
        self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        sequences = ast.List | ast.Tuple | ast.Set | ast.Dict | ast.ListComp | ast.SetComp | ast.JoinedStr
        plain = not any(
            isinstance(side, sequences) or isinstance(getattr(side, "value", None), str)
            for side in (node.left, node.right)
        )
        if type(node.op) in ARITHMETIC and plain:
            kind = "mask" if isinstance(node.op, ast.BitAnd | ast.BitOr) else "arithmetic"
            self.between(node.left, node.right, *ARITHMETIC[type(node.op)], kind)
            if isinstance(node.op, ast.Sub):
                self.note("sign", *self.span(node), f"-({self.text(node)})")
        self.generic_visit(node)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        number = isinstance(node.value, ast.BinOp) or isinstance(getattr(node.value, "value", None), int)
        if type(node.op) in ARITHMETIC and number:
            old, new = ARITHMETIC[type(node.op)]
            start, end = self.span(node.target)[1], self.span(node.value)[0]
            at = start + self.bytes[start:end].index(old.encode())
            self.note("arithmetic", at, at + len(old), new)
        self.generic_visit(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        old, new = ("and", "or") if isinstance(node.op, ast.And) else ("or", "and")
        for left, right in pairwise(node.values):
            self.between(left, right, old, new, "boolean")
        self.generic_visit(node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> None:
        start, end = self.span(node)
        match node.op, node.operand:
            case ast.USub(), ast.Constant(value=int() | float() as value):
                if new := _number(value):
                    self.note("constant", start, end, f"-{2 if value == 1 else new}")
                return
            case (ast.Not() | ast.Invert() | ast.USub()) as op, _:
                kind = {ast.Not: "boolean", ast.Invert: "mask", ast.USub: "sign"}[type(op)]
                symbol = 3 if isinstance(op, ast.Not) else 1
                self.note(kind, start, end, self.bytes[start + symbol : end].decode().lstrip())
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        value = node.value
        if isinstance(value, int | float) and (new := _number(value)) is not None:
            self.note("constant", *self.span(node), new)
        elif isinstance(value, str) and value in WORDS:
            self.note("word", *self.span(node), f'"{WORDS[value]}"')

    def visit_Subscript(self, node: ast.Subscript) -> None:
        inside = node.slice
        if isinstance(inside, ast.Constant) and inside.value in COLUMNS:
            self.note("column", *self.span(inside), f'"{COLUMNS[inside.value]}"')
            self.visit(node.value)
        else:
            self.generic_visit(node)

    def _sequence(self, node: ast.List | ast.Tuple) -> None:
        for left, right in pairwise(node.elts):
            names = [getattr(side, "value", None) for side in (left, right)]
            if all(isinstance(name, str) and name in COLUMNS for name in names):
                self._exchange("column", left, right)
        self.generic_visit(node)

    visit_List = visit_Tuple = _sequence

    def _exchange(self, kind: str, left: ast.AST, right: ast.AST) -> None:
        start, end = self.span(left)[0], self.span(right)[1]
        middle = self.bytes[self.span(left)[1] : self.span(right)[0]].decode()
        self.note(kind, start, end, f"{self.text(right)}{middle}{self.text(left)}")

    def visit_Dict(self, node: ast.Dict) -> None:
        keys = [getattr(key, "value", None) for key in node.keys]
        for left, right, names in zip(node.keys, node.keys[1:], pairwise(keys)):
            if set(names) <= set(COLUMNS):
                self._exchange("column", left, right)
        for key, name, value in zip(node.keys, keys, node.values):
            if not LOOKS.fullmatch(str(name)):
                for part in filter(None, (key, value)):
                    self.visit(part)

    def visit_Slice(self, node: ast.Slice) -> None:
        for bound in (node.lower, node.upper):
            if isinstance(bound, ADDITIVE):
                self.note("slice", *self.span(bound), f"{self.text(bound)} + 1")
        self.generic_visit(node)

    def visit_If(self, node: ast.If) -> None:
        if isinstance(node.body[-1], ast.Raise) and not node.orelse:
            start, first = self.span(node)[0], self.span(node.body[0])[0]
            self.note("guard", start, self.span(node)[1], self.bytes[start:first].decode().rstrip() + " pass")
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        name = getattr(node.func, "attr", getattr(node.func, "id", ""))
        if name in SILENT:
            return
        if name in EXTREMA:
            end = self.span(node.func)[1]
            self.note("extremum", end - len(name), end, EXTREMA[name])
        pairs = [
            (left, right)
            for left, right in pairwise(node.args)
            if isinstance(left, ast.Name) and isinstance(right, ast.Name) and left.id != right.id
        ]
        if pairs and name not in SYMMETRIC:
            self._exchange("arguments", *pairs[0])
        for part in (node.func, *node.args):
            self.visit(part)
        for keyword in node.keywords:
            if keyword.arg in ("axis", "dim") and (value := self.text(keyword.value)) in ("0", "1", "-1"):
                self.note("axis", *self.span(keyword.value), "1" if value == "0" else "0")
            elif not LOOKS.fullmatch(keyword.arg or ""):
                self.visit(keyword.value)


def _number(value: float) -> str | None:
    """Another number in its place (0 ↔ 1, 2 → 3, .5 → .6, .95 → .9); none for tolerances and budgets."""
    if isinstance(value, bool) or (value and not 1e-3 <= value < 1000):
        return None
    if value in (0, 1):
        return repr(type(value)(1 - value))
    if isinstance(value, int):
        return repr(value + 1)
    return repr(0.9 if 0.9 < value < 1 else round(value + 0.1, 6))
