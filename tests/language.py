"""A check on the English of the code, part of `make lint`: habits that make a reader stumble.

    python -m tests.language

It reads every docstring, comment and message of kit/ and jobs/. Limits are per package and 1,000 words
of docstrings: "where" for "if", and clauses with "what" in place of a noun. Phrases that have a plain
word are refused wherever they stand; a word in backquotes is a name, not a phrase.
"""

from __future__ import annotations

import ast
import re
import sys
import tokenize
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]
LIMITS = {"where": 4.0, "what": 2.0}  # per 1,000 words; structlog and httpx have 0.3 and 0.2
PHRASES = {
    "anew": "again, from scratch",
    "at hand": "available",
    "at work": "running",
    "be it": "whether",
    "go on with": "continue",
    "goes on with": "continues",
    "gone on": "resumed",
    "is told": "is reported, is given",
    "are told": "are reported, are given",
    "where there is none": "if missing",
    "where there are none": "if missing",
    "so many": "the number",
}
_NAME = re.compile(r"`[^`]*`|'[^' ]*'|\"[^\" ]*\"")
_WORD = re.compile(r"[A-Za-z]+")


class Text(NamedTuple):
    """A docstring, a comment or a message."""

    path: Path
    line: int
    kind: str
    words: str


def texts(path: Path) -> Iterator[Text]:
    """The prose of a module."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    docstrings = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(
            node
        ):
            constant = node.body[0].value  # type: ignore[attr-defined]
            docstrings.add(id(constant))
            yield Text(path, constant.lineno, "docstring", constant.value)
    for node in ast.walk(tree):
        if not isinstance(node, ast.Constant) or id(node) in docstrings:
            continue
        if isinstance(node.value, str) and " " in node.value:
            yield Text(path, node.lineno, "message", node.value)
    with path.open("rb") as stream:
        for token in tokenize.tokenize(stream.readline):
            if token.type == tokenize.COMMENT:
                yield Text(path, token.start[0], "comment", token.string)


def complaints(package: Path) -> Iterator[str]:
    """Of a package: phrases with their place, and counts that are over the limit."""
    docstrings = ""
    for path in sorted(package.rglob("*.py")):
        for text in texts(path):
            prose = _NAME.sub("", " ".join(text.words.split()))
            if text.kind == "docstring":
                docstrings += f" {prose}"
            for phrase, better in PHRASES.items():
                if re.search(rf"\b{phrase}\b", prose, re.IGNORECASE):
                    place = f"{path.relative_to(ROOT)}:{text.line}"
                    yield f"{place}: '{phrase}' in a {text.kind}; write: {better}"
    words = [word.lower() for word in _WORD.findall(docstrings)]
    for word, limit in LIMITS.items():
        allowed = 1 + limit * len(words) / 1000
        if (count := words.count(word)) > allowed:
            name = package.relative_to(ROOT)
            yield f"{name}: '{word}' {count} times in its docstrings; at most {allowed:.0f}"


def main() -> int:
    """Print what is wrong; the exit code says whether anything is."""
    packages = [ROOT / "jobs", *(path for path in (ROOT / "kit").iterdir() if path.is_dir())]
    wrong = [line for package in sorted(packages) for line in complaints(package)]
    print(*wrong, sep="\n", end="\n" if wrong else "")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
