"""Turn raw text into shards of segmented documents, and report on it.

python -m jobs.preprocess run demo
python -m jobs.preprocess report demo
python -m jobs.preprocess show demo web-00000 3
"""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from jobs.command import Json, OfRecipe, main, print_json, verb
from jobs.stage import stage_app

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kit.corpus.history import History

app = stage_app(
    "preprocess",
    "Turn raw text into shards of segmented documents; show the history of a document.",
    "Extract, normalise, split and segment the raw texts into shards",
)


@verb(app, "report", "demo")
def report_verb(arguments: OfRecipe) -> None:
    """Show how much each step kept and dropped, with a plot and ten documents before and after."""

    from kit.corpus import report

    folder = report.make(arguments.load(refuse=False))
    print((folder / report.TABLE).read_text(encoding="utf-8"))
    print(f"{folder / report.TABLE}, {folder / report.PLOT}")


# So that a negative number is refused as a document, not as an unknown option.
_NUMBERS = {"ignore_unknown_options": True}


@verb(app, "show", "demo web-00000 3", settings=_NUMBERS)
def show_verb(
    arguments: OfRecipe,
    shard: Annotated[str, typer.Argument(metavar="SHARD", help="Name of the shard: web-00000.")],
    number: Annotated[
        int, typer.Argument(metavar="DOCUMENT", help="Number of the document in the part, from 0.")
    ],
    part: Annotated[
        str, typer.Option("--part", help="Part of the shard: train or held-out.")
    ] = "train",
    as_json: Json = False,
) -> None:
    """Show a document of a shard with its history: source, licence, URL, and the text after each step."""
    from kit.corpus import history

    found = history.read(arguments.load(refuse=False), shard, number, part)
    if as_json:
        print_json(asdict(found))
    else:
        _show(found)


def _show(found: "History") -> None:
    print(
        f"document {found.document} of {found.documents} in {found.part} of {found.shard}, from 0"
    )
    print(f"source: {found.source} ({found.kind}), document {found.raw_document} of {found.file}")
    for name in ("license", "url", "id", "hash"):
        print(f"{name}: {getattr(found, name) or 'not known'}")
    _show_step("raw", "line", found.raw)
    _show_step("normalised", "line", found.normalised)
    _show_step("sentences", "sentence", found.sentences)
    _show_step("words", "word", found.words, sum(len(line.split(" ")) for line in found.words))


def _show_step(name: str, noun: str, lines: "Sequence[str]", number: int | None = None) -> None:
    from kit.output import quantities

    characters = quantities.count(sum(map(len, lines)), "character")
    print(
        f"\n## {name}: {quantities.count(len(lines) if number is None else number, noun)}, {characters}"
    )
    print(*lines, sep="\n")


if __name__ == "__main__":
    main(app)
