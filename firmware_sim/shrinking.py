"""Makes MicroPython sources small enough to be compiled in a few KB of heap.

Only what the nano client is written in is known: functions, simple statements, imports by name.
"""

import ast
import builtins
from collections import Counter
from collections.abc import Collection, Sequence
from io import StringIO
from itertools import chain, product
from keyword import iskeyword
from string import ascii_letters
from tokenize import DEDENT, ENDMARKER, INDENT, NEWLINE, NL, generate_tokens


def shrink(sources: Sequence[str], package: str, keep: Collection[str] = ()) -> list[str]:
    """The sources without comments, docstrings, annotations and imports from `package`, names shortened.

    The same name becomes the same everywhere, so that they still fit together when they are run in one
    namespace. Names in `keep`, built-in ones and attributes stay. SyntaxError for a source that is no Python.
    """
    trees = [_Bare(package).visit(ast.parse(source)) for source in sources]
    names = _Names()
    for tree in trees:
        names.visit(tree)
    kept = {*keep, *dir(builtins)}
    short = ("".join(letters) for letters in chain(*(product(ascii_letters, repeat=n) for n in (1, 2))))
    # The most used names first: they get the single letters.
    free = (name for name in short if not iskeyword(name) and name not in kept)
    mapping = {name: next(free) for name, _ in names.found.most_common() if name not in kept}
    return [_text(_Renamed(mapping).visit(tree)) for tree in trees]


def _text(tree: ast.AST) -> str:
    # One blank for each level of indentation, and none but between words.
    out, level, start, before = "", 0, True, ""
    for token in generate_tokens(StringIO(ast.unparse(ast.fix_missing_locations(tree))).readline):
        level += (token.type == INDENT) - (token.type == DEDENT)
        if token.type in (INDENT, DEDENT, NL, ENDMARKER):
            continue
        if token.type == NEWLINE:
            out, start, before = out + "\n", True, ""
            continue
        needs_blank = _is_word(before[-1:]) and _is_word(token.string[:1])
        out += (" " * level if start else " " * needs_blank) + token.string
        start, before = False, token.string
    return out


def _is_word(character: str) -> bool:
    return character.isalnum() or character == "_"


class _Bare(ast.NodeTransformer):
    def __init__(self, package: str) -> None:
        self._package = package

    def visit_Module(self, node: ast.Module) -> ast.AST:
        node.body = _without_docstring(node.body)
        return self.generic_visit(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.body = _without_docstring(node.body)
        node.returns = None
        return self.generic_visit(node)

    def visit_arg(self, node: ast.arg) -> ast.AST:
        node.annotation = None
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        value = node.value or ast.Constant(None)
        return self.generic_visit(ast.Assign([node.target], value, lineno=node.lineno))

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.AST | None:
        return None if f"{node.module}.".startswith(f"{self._package}.") else node


def _without_docstring(body: list[ast.stmt]) -> list[ast.stmt]:
    first = body[0]
    is_text = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
    return body[1:] if is_text else body


class _Names(ast.NodeVisitor):
    def __init__(self) -> None:
        self.found = Counter[str]()

    def visit_Name(self, node: ast.Name) -> None:
        self.found[node.id] += 1

    def visit_arg(self, node: ast.arg) -> None:
        self.found[node.arg] += 1

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self.found[node.name] += 1
        self.generic_visit(node)

    def visit_alias(self, node: ast.alias) -> None:
        self.found[node.name] += 1


class _Renamed(ast.NodeTransformer):
    def __init__(self, mapping: dict[str, str]) -> None:
        self._mapping = mapping

    def _short(self, name: str) -> str:
        return self._mapping.get(name, name)

    def visit_Name(self, node: ast.Name) -> ast.AST:
        node.id = self._short(node.id)
        return node

    def visit_arg(self, node: ast.arg) -> ast.AST:
        node.arg = self._short(node.arg)
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.name = self._short(node.name)
        return self.generic_visit(node)

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> ast.AST:
        node.name = self._short(node.name) if node.name else None
        return self.generic_visit(node)

    def visit_alias(self, node: ast.alias) -> ast.AST:
        node.asname = self._short(node.name)
        return node
