"""Documents into shards: normalised, split into sentences, segmented, the held-out ones set apart."""

from __future__ import annotations

import functools
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kit import shards, stage
from kit.config import Recipe, read_resolved
from kit.corpus import plaintext, sentences, wikipedia
from kit.corpus.normalise import normalise
from kit.corpus.segment import segmenter
from kit.errors import InputError
from kit.files import file_hash, text_hash

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from kit.corpus.segment import Segmenter
    from kit.workspace import Run


def units(recipe: Recipe) -> list[stage.Unit]:
    """One unit for each piece of the raw text. Raises StageError before the download is complete."""
    return [
        stage.Unit(
            shard.name,
            shard.folder,
            shard.causes,
            functools.partial(_make, recipe, shard.piece),
        )
        for shard in shards.expected(recipe)
    ]


def work(run: Run, task: int, tasks: int) -> None:
    """What a submitted task runs; the run directory is all it reads."""
    stage.run("preprocess", units(read_resolved(run.recipe, Recipe)), task, tasks)


def segment_document(
    lines: list[str], mode: str, words: Segmenter, counts: Counter[str]
) -> list[str]:
    """A document's lines as segmented sentences; empty lines are left out, and counted."""
    out: list[str] = []
    for line in lines:
        text, marks = normalise(line, mode)
        counts["marks_replaced"] += marks
        if not text:
            counts["lines_dropped"] += 1
            continue
        counts["lines"] += 1
        counts["characters"] += len(text)
        counts["bytes"] += len(text.encode()) + 1  # the end of the line is of the text
        for sentence in sentences.split(text):
            chunks = [words.words(chunk) if chunk else [] for chunk in sentence.split(" ")]
            out.append(shards.join_words(chunks))
        if mode == "default":
            out[-1] += f" {shards.LINE_END}"
    return out


def is_held_out(lines: list[str], share: float) -> bool:
    """Whether a document, as it was extracted, is kept from training: a function of its text."""
    return text_hash("\n".join(lines)) < share * 2**64


def _make(recipe: Recipe, piece: Mapping[str, Any], folder: Path) -> Mapping[str, Any]:
    corpus = recipe.corpus
    words = segmenter(corpus.segmenter, corpus.segmenter_version)
    counts: dict[str, Counter[str]] = {part: Counter() for part in shards.PARTS}
    train, held_out = (shards.part_file(folder, part) for part in shards.PARTS)
    with shards.writer(train) as add_train, shards.writer(held_out) as add_held_out:
        for lines in _documents(piece):
            held = is_held_out(lines, corpus.held_out)
            count = counts[shards.HELD_OUT if held else shards.TRAIN]
            document = segment_document(lines, corpus.mode, words, count)
            if document:
                (add_held_out if held else add_train)(document)
                count["documents"] += 1
                count["sentences"] += len(document)
                count["words"] += sum(sentence.count(" ") + 1 for sentence in document)
    return {
        "counts": {part: dict(sorted(count.items())) for part, count in counts.items()},
        "kept_whole": words.kept_whole,
        "segmenter": f"{corpus.segmenter} {corpus.segmenter_version}",
    }


def _documents(piece: Mapping[str, Any]) -> Iterator[list[str]]:
    path = Path(piece["path"])
    if not path.is_file() or file_hash(path, piece["start"], piece["end"]) != piece["xxh3"]:
        raise InputError(f"{path}: is not what jobs.download found; run jobs.download again")
    if piece["kind"] == "plaintext":
        return plaintext.documents(path)
    return wikipedia.documents(path, piece["header_end"], piece["start"], piece["end"])
