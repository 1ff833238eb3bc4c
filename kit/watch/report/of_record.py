"""Parts of the page that are on record: the resolved recipe, amendments, code, packages, nodes."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING

from kit.config import amendments, relocation
from kit.output.quantities import count
from kit.watch.report.markup import Markup, paragraph, preformatted, private, table, text
from kit.watch.report.of_run import when

if TYPE_CHECKING:
    from kit.watch.report.content import Content

_LISTED = 100  # amendments and nodes
_RECIPE = 60_000  # characters
_PACKAGES = (
    "torch", "deepspeed", "transformers", "tokenizers", "sentencepiece", "numpy", "safetensors", "submitit",
    "tensorboard", "mlflow-skinny",
)  # fmt: skip


def recipe(content: Content) -> Markup:
    """The resolved recipe as JSON, secrets masked; to be published, without paths."""
    shown = relocation.for_release if content.public else relocation.without_secrets
    tree = shown(content.recipe.model_dump(mode="json"))
    words = json.dumps(tree, ensure_ascii=False, indent=1, sort_keys=True)
    return preformatted("The resolved recipe", words, _RECIPE)


def amended(content: Content) -> Markup:
    """The changes made in the run."""
    rows = [
        (when(row["time"]), row["key"], private(row["old"], 120), private(row["new"], 120))
        for row in amendments.to_publish(amendments.read(content.run))[-_LISTED:]
    ]
    if not rows:
        return paragraph("None.")
    return table("Amendments", ("time", "key", "before", "after"), rows)


def versions(content: Content) -> Markup:
    """Code and packages of the run."""
    run = content.run
    rows: list[tuple[object, object]] = []
    if run.code.is_dir():
        rows.append(("code", run.code.resolve().name.removeprefix(f"{run.code.name}-")))
    if run.environment.is_file():
        lines = run.environment.read_text(encoding="utf-8").split()
        pairs = dict(line.partition("==")[::2] for line in lines)
        rows += [(name, pairs[name]) for name in _PACKAGES if name in pairs]
        rows.append(("all packages", f"{len(lines)}, in environment.txt of the run directory"))
    if not rows:
        return paragraph("The run was not submitted yet.")
    return table("Code and packages", ("what", "version"), rows)


def nodes(content: Content) -> Markup:
    """The nodes of rank 0, with the number of attempts on each."""
    numbers = Counter(node for node in content.nodes.values() if node)
    if not numbers:
        return paragraph("None yet.")
    rows = [(text(node, 80), number) for node, number in numbers.most_common(_LISTED)]
    more = len(numbers) - len(rows)
    words = paragraph(f"And {count(more, 'more node')}.") if more > 0 else ""
    return Markup(table("Nodes of rank 0", ("node", "attempts"), rows) + words)
