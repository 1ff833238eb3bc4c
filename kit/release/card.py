"""The model card, filled from the run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from kit.data import shards, tokens
from kit.output.charts.picture import save
from kit.output.quantities import duration
from kit.store import manifest
from kit.store.files import atomic, read_json
from kit.store.paths import Workspace
from kit.tokenizer.huggingface import END
from kit.tracking import curves, ledger

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kit.config.recipe import Recipe
    from kit.release.source import ReleaseSource
    from kit.store.paths import Run
    from kit.tracking.rows import CurveRow

PICTURE = "loss.png"
_CARD = """---
language: ja
license: {license}
library_name: transformers
pipeline_tag: text-generation
tags: [gpt2, japanese]
---
# {name}

A GPT-2 language model for Japanese, trained with ekiden: {layers} layers, width {width},
{heads} heads, blocks of {positions} tokens, {parameters:,} parameters, stored as {dtype}.
{standing}
## Use
```python
from transformers import pipeline

generator = pipeline("text-generation", model="PATH_OF_THIS_FOLDER")
print(generator("{prompt}")[0]["generated_text"])
```
The model saw text normalised by neologdn and segmented into words ({segmenter}); {cuts}
its input. It takes raw text as well, though less surely. `ekiden generate text PATH_OF_THIS_FOLDER`
normalises and segments a prompt first. A document begins after the token `{before}`.

## Training
| | |
| --- | --- |
| sources | {sources} |
| documents | {documents:,} for training, {held_out:,} held out |
| tokens | {tokens:,} for training; vocabulary {vocabulary:,} |
| steps | {steps:,} of {global_batch} blocks: {seen:,} tokens seen |
| precision | {precision} |
| begun from | {origin} |
| attempts | {attempts}, {interruptions} of them interrupted and continued |
| time | {time} |
| training loss | {first_loss:.3f} at step {first_step}, {last_loss:.3f} at step {last_step} |

![Training and validation loss over the tokens seen]({picture})

## Scores on the held-out documents
{scores}
## Limits
It repeats what its sources say, true or not, and nobody has checked it for harmful text.
The recipe and the curve of the training are in `recipe.json` and `ledger.jsonl`.
"""
_SCORES = """| | this model | unigram model |
| --- | --- | --- |
| loss, nats a token | {loss:.3f} | {unigram_loss:.3f} |
| perplexity a token | {perplexity:.1f} | {unigram_perplexity:.1f} |
| bits a byte | {bits_per_byte:.3f} | |
"""
_UNSCORED = "This checkpoint has not been scored yet.\n"
_CUTS = {
    "lossless": "U+2063, which is not seen, stands between words in",
    "article": "words are separated by a space in",
}


def text(source: ReleaseSource, recipe: Recipe, scores: dict[str, Any] | None) -> str:
    """The text of a model card, with the scores of `evaluate.scores` if there are any."""
    data, vocabulary = tokens.complete(recipe), tokens.tokenizer_info(recipe)
    tokenizer = manifest.read(Workspace(Path(recipe.workspace)).tokenizer, "jobs.tokenizer")
    facts = [manifest.read(unit.folder, "jobs.tokenize") for unit in data]
    rows = source.curve()
    curve = [r for r in rows if r["kind"] == "step" and r["loss"] is not None]
    attempts, step = source.attempts(), source.checkpoint.step
    began = next(
        row
        for attempt in ledger.attempts(source.run)
        for row in ledger.rows(attempt)
        if row["kind"] == "attempt"
    )

    def documents(part: str) -> int:
        return sum(fact["counts"][part].get("documents", 0) for fact in facts)

    return _CARD.format(
        license=recipe.release.license,
        name=recipe.name,
        picture=PICTURE,
        layers=recipe.model.n_layer,
        width=recipe.model.n_embd,
        heads=recipe.model.n_head,
        positions=recipe.model.n_positions,
        parameters=began["parameters"] - _padding(recipe, vocabulary.size) * recipe.model.n_embd,
        prompt=recipe.release.prompts[0],
        segmenter=f"{recipe.corpus.segmenter}, {recipe.corpus.segmenter_version}",
        cuts=_CUTS[tokenizer["spaces"]],
        before=END,
        sources=", ".join(_sources(recipe)),
        documents=documents(shards.TRAIN),
        held_out=documents(shards.HELD_OUT),
        tokens=sum(fact["tokens"][shards.TRAIN] for fact in facts),
        vocabulary=vocabulary.size,
        steps=step,
        global_batch=recipe.training.global_batch,
        seen=step * recipe.training.global_batch * recipe.model.n_positions,
        precision=recipe.training.precision,
        origin=_origin(source.run),
        attempts=attempts,
        interruptions=attempts - 1,
        time=_time(began["time"], rows),
        first_loss=curve[0]["loss"],
        first_step=curve[0]["step"],
        last_loss=curve[-1]["loss"],
        last_step=curve[-1]["step"],
        scores=_SCORES.format(**scores) if scores else _UNSCORED,
        dtype=recipe.release.dtype,
        standing=_unfinished(source),
    )


def picture(source: ReleaseSource, recipe: Recipe, folder: Path) -> None:
    """Draw the curve that the card shows into a folder."""
    chart = curves.loss_chart(curves.columns(source.curve(), recipe))
    with atomic(folder / PICTURE) as out:
        save(chart, out=out)


def _sources(recipe: Recipe) -> list[str]:
    """The names of the texts, with their licences as far as the recipe has them."""
    return [
        f"{name} ({source.license})" if source.license else name
        for name, source in sorted(recipe.corpus.sources.items())
    ]


def _time(begin: float, curve: Sequence[CurveRow]) -> str:
    """The time from the begin of the training to its last row, and the share of the steps in it."""
    steps = sum(row["seconds"] for row in curve if row["kind"] == "step")
    whole = max(curve[-1]["time"] - begin, steps)
    return f"{duration(whole)} from begin to end, {steps / whole:.1%} of it in the steps above"


def _unfinished(source: ReleaseSource) -> str:
    """The notice on a model whose training was not finished."""
    if source.moment is None or source.moment.finished:
        return ""
    return f"\n**The {source.moment.words}.**\n"


def _padding(recipe: Recipe, entries: int) -> int:
    """The number of rows that pad the embedding; they are not released."""
    from kit.plan.shape import padded_vocab_size

    return padded_vocab_size(entries, recipe.model.pad_vocab_to) - entries


def _origin(run: Run) -> str:
    """The origin of the initial weights: random, or another run."""

    if not run.origin.is_file():
        return "random weights"
    origin = read_json(run.origin)
    return f"step {origin['step']} of the run {origin['run'].rsplit('/', 1)[-1]}"
