"""Samples: the texts by which the model continues the prompts of the release, at each validation.

They are for a reader, and leave no trace: every token is drawn with a seed of its own prompt and step, and
dropout is off. Prompts are tokenized as they are, as by a user of the released folder, since a node that
trains need not have a segmenter. jobs.generate segments them as it does the corpus.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from kit.data import tokenizer_file, tokens
from kit.output import log
from kit.store.files import text_hash
from kit.store.paths import Workspace

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tokenizers import Tokenizer
    from torch import Tensor

    from kit.config.recipe import Recipe, Release
    from kit.training.context import Context
    from kit.training.engine import Engine


@dataclass(frozen=True)
class Sample:
    """A prompt, and the text that begins with it."""

    prompt: str
    text: str


class Samples:
    """The prompts of a recipe, ready to be continued.

    All ranks write the same samples: they would wait for rank 0 anyway, and ZeRO-3 needs every rank.
    """

    def __init__(self, context: Context, engine: Engine) -> None:
        """Tokenize the prompts on rank 0. A collective."""
        recipe = context.recipe
        self._engine, self._watchdog, self._recipe = engine, context.watchdog, recipe
        self._end = tokens.tokenizer_info(recipe).end
        self._tokenizer: Tokenizer | None = None  # rank 0's
        prompts: dict[str, list[int]] = {}
        if context.collectives.rank == 0 and recipe.training.sample_tokens:
            folder = Workspace(Path(recipe.workspace)).tokenizer
            self._tokenizer = tokenizer_file.load(folder)
            prompts = tokenized(recipe, self._tokenizer)
        self._prompts: dict[str, list[int]] = context.collectives.broadcast(prompts)

    def write(self, step: int, leave_if_interrupted: Callable[[], None]) -> list[Sample]:
        """Continue the prompts; the samples on rank 0, nothing on other ranks. A collective.

        `leave_if_interrupted` is called before each token.
        """
        number = self._recipe.training.sample_tokens
        if not self._prompts or number is None:
            return []
        given = [*self._prompts.values()]
        draw = _draws(self._recipe.release, step, len(given))

        def following(ids: Tensor, last: Tensor) -> Tensor:
            self._watchdog.begin(f"samples at step {step}")
            leave_if_interrupted()
            return draw(self._engine.next_logits(ids, last))

        room = self._recipe.model.n_positions - max(map(len, given))
        written = continued(given, min(number, room), following)
        return [
            Sample(prompt, self._text(ids))
            for prompt, ids in zip(self._prompts, written, strict=True)
            if self._tokenizer is not None
        ]

    def _text(self, ids: list[int]) -> str:
        assert self._tokenizer is not None
        end = ids.index(self._end, 1) if self._end in ids[1:] else len(ids)
        return self._tokenizer.decode(ids[:end], skip_special_tokens=True).strip()


def tokenized(recipe: Recipe, tokenizer: Tokenizer) -> dict[str, list[int]]:
    """The prompts that can be continued, with their tokens; warns of the others."""
    usable = {}
    for prompt in recipe.release.prompts:
        ids = tokenizer.encode(prompt, add_special_tokens=False).ids
        if 0 < len(ids) < recipe.model.n_positions:
            usable[prompt] = ids
            continue
        log.warning(
            f"release.prompts: no samples of '{prompt[:30]}', which has {len(ids)} tokens: 1 to "
            f"{recipe.model.n_positions - 1} can be continued"
        )
    return usable


def continued(
    prompts: Sequence[list[int]], number: int, following: Callable[[Tensor, Tensor], Tensor]
) -> list[list[int]]:
    """Append `number` tokens to each prompt, with one call of `following` for each token of all of them.

    `following(ids, last)` gives the token after position `last` [batch] of each row of ids [batch, length].
    The number of calls depends on nothing that is drawn, so that it is the same on all ranks.
    """
    last = torch.tensor([len(ids) - 1 for ids in prompts])
    table = torch.zeros(len(prompts), int(last.max()) + 1 + number, dtype=torch.int64)
    for row, ids in zip(table, prompts, strict=True):
        row[: len(ids)] = torch.tensor(ids)
    for _ in range(number):
        drawn = following(table[:, : int(last.max()) + 1], last)
        last = last + 1
        table[torch.arange(len(prompts)), last] = drawn
    return [row[: int(end) + 1].tolist() for row, end in zip(table, last, strict=True)]


def _draws(release: Release, step: int, prompts: int) -> Callable[[Tensor], Tensor]:
    """A function that draws a token from each row of logits, as the release does.

    Each prompt has its own generator, seeded by the step: training's generators are not touched.
    """
    generators = [
        torch.Generator().manual_seed(text_hash(f"sample.{release.seed}.{step}.{prompt}") >> 1)
        for prompt in range(prompts)
    ]

    def draw(logits: Tensor) -> Tensor:
        chances = (logits / release.temperature).softmax(-1)
        chances = chances.nan_to_num(1.0)  # a model that has diverged writes anything
        ordered, order = chances.sort(-1, descending=True)
        before = ordered.cumsum(-1) - ordered
        ordered[before >= release.top_p] = 0.0  # the first always stays
        picked = [
            torch.multinomial(row, 1, generator=generator)
            for row, generator in zip(ordered, generators, strict=True)
        ]
        return order.gather(-1, torch.stack(picked)).squeeze(-1)

    return draw
