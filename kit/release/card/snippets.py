"""The code and the citation that a card shows: the same in both languages."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

from kit.release import fine_tuning, prompt_snippet

if TYPE_CHECKING:
    from kit.release.card.facts import CardFacts

FOLDER = "PATH_OF_THIS_FOLDER"
_RAW = """from transformers import pipeline

generator = pipeline("text-generation", model="{folder}")
print(generator({prompt})[0]["generated_text"])
"""
_SEGMENTED = """{cut}text = generator(prompt)[0]["generated_text"]
print(text.replace({separator}, ""))
"""
# As CITATION.cff of the kit, which a run's snapshot of the code does not hold: a test compares them.
KIT = """@software{ekiden,
  title = {ekiden},
  author = {{The ekiden maintainers}},
  version = {%s}
}
"""


def raw(facts: CardFacts) -> str:
    """Continues raw text."""
    return _RAW.format(folder=FOLDER, prompt=_prompt(facts))


def segmented(facts: CardFacts) -> str:
    """Continues text in words, as in training; goes on from `raw`."""
    separator = json.dumps("\u2063" if facts.tokenizer.spaces == "lossless" else " ")
    corpus, tokenizer = facts.corpus, facts.tokenizer
    cut = prompt_snippet.snippet(corpus.segmenter, tokenizer.spaces, _prompt(facts))
    return _SEGMENTED.format(cut=cut, separator=separator)


def tuning(facts: CardFacts) -> str:
    """Teaches the model texts and their ends, in words as in training."""
    return fine_tuning.snippet(facts.corpus.segmenter, facts.tokenizer.spaces)


def citation(facts: CardFacts) -> str | None:
    """BibTeX for the model: the recipe's, or one of its authors; None without either."""
    release = facts.release
    if release.citation is not None or not release.authors:
        return release.citation
    year = time.gmtime(facts.training.ended).tm_year
    return (
        f"@misc{{{facts.name},\n  title = {{{facts.name}}},\n"
        f"  author = {{{' and '.join(release.authors)}}},\n  year = {{{year}}}\n}}"
    )


def citation_of_kit(facts: CardFacts) -> str:
    """BibTeX for ekiden."""
    return KIT % facts.version


def _prompt(facts: CardFacts) -> str:
    """The first prompt of the recipe, as code."""
    return json.dumps(next(iter(facts.release.prompts), "日本の"), ensure_ascii=False)
