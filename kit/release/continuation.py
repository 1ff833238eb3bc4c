"""Continue prompts with a model: raw text in, plain text out, token by token.

    with opened(model, tokenizer, recipe) as writer:
        ids = writer.tokens("霧浜県の")
        writer.continued(ids, number=0, tell=print).text

The recipe names the segmenter and the mode of the corpus, and how tokens are sampled.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kit.data import shards
from kit.errors import InputError
from kit.release import prepared
from kit.tokenizer import huggingface

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tokenizers import Tokenizer

    from kit.config.recipe import Recipe
    from kit.corpus.segment import Segmenter

    Tell = Callable[[str], None]


@dataclass(frozen=True)
class Continued:
    """A prompt with its continuation, as plain text."""

    text: str
    new_tokens: int
    ended: bool  # by the end of the document, not by a limit


@contextmanager
def opened(
    model: Any, tokenizer: Tokenizer, recipe: Recipe, *, greedy: bool = False
) -> Iterator[Writer]:
    """Open the recipe's segmenter for a model. Raises ClusterError if this machine has another."""
    from kit.corpus import segment

    corpus = recipe.corpus
    with segment.open(corpus.segmenter, corpus.segmenter_version, workers=1) as words:
        yield Writer(model, tokenizer, recipe, words, greedy=greedy)


def texts(model: Any, tokenizer: Tokenizer, recipe: Recipe, prompts: Sequence[str]) -> list[str]:
    """The continued prompts, after all of them were checked. Raises InputError as `Writer.tokens`."""
    with opened(model, tokenizer, recipe) as writer:
        given = [writer.tokens(prompt) for prompt in prompts]
        return [writer.continued(ids, number).text for number, ids in enumerate(given)]


class Writer:
    """A model that continues prompts, with the tokenizer and the segmenter of its corpus."""

    def __init__(
        self,
        model: Any,
        tokenizer: Tokenizer,
        recipe: Recipe,
        words: Segmenter,
        *,
        greedy: bool,
    ) -> None:
        self._model, self._tokenizer, self._recipe, self._words = model, tokenizer, recipe, words
        self._spaces, self._greedy = prepared.spaces_of(tokenizer), greedy

    def tokens(self, prompt: str) -> list[int]:
        """The tokens of a prompt, processed like the corpus.

        Raises InputError for one that is empty then, or leaves no room for new tokens.
        """
        sentences = prepared.segmented(prompt, self._recipe.corpus, self._words)
        surface = huggingface.surface(shards.document(sentences), self._spaces)
        ids: list[int] = self._tokenizer.encode(surface, add_special_tokens=False).ids
        most = self._recipe.model.n_positions - 1
        if not 1 <= len(ids) <= most:
            raise InputError(f"prompt '{prompt[:30]}': {len(ids)} tokens; give 1 to {most}")
        return ids

    def continued(self, ids: Sequence[int], number: int, tell: Tell | None = None) -> Continued:
        """Continue the tokens of the prompt of that number, which decides what is drawn.

        `tell` gets the text in pieces while it is written, the prompt first.
        """
        import torch

        release = self._recipe.release
        torch.manual_seed(release.seed + number)
        sampling: dict[str, Any] = {"do_sample": False, "temperature": None, "top_p": None}
        if not self._greedy:
            sampling = {
                "do_sample": True,
                "temperature": release.temperature,
                "top_p": release.top_p,
            }
        output = self._model.generate(
            torch.tensor([ids]),
            attention_mask=torch.ones(1, len(ids), dtype=torch.long),
            max_new_tokens=min(self._recipe.model.n_positions - len(ids), release.max_new_tokens),
            streamer=None if tell is None else _Pieces(self._tokenizer, tell),
            **sampling,
        )
        written = output[0].tolist()
        text = self._tokenizer.decode(written, skip_special_tokens=True).strip()
        ended = written[-1] == self._tokenizer.token_to_id(huggingface.END)
        return Continued(text, len(written) - len(ids), ended)


class _Pieces:
    """A streamer of transformers that tells a text in pieces, which together are the text."""

    def __init__(self, tokenizer: Tokenizer, tell: Tell) -> None:
        self._tokenizer, self._tell = tokenizer, tell
        special = tokenizer.get_added_tokens_decoder()
        self._open_ends = {*special, *map(tokenizer.token_to_id, huggingface.BYTES)}
        self._ids: list[int] = []
        self._told = 0  # characters

    def put(self, ids: Any) -> None:
        """Take further tokens, a tensor."""
        self._ids += ids.flatten().tolist()
        certain = len(self._ids)
        # The characters of adjacent bytes are known when text follows. A special token is no text: it is
        # left out, which makes the bytes on its sides adjacent.
        while certain and self._ids[certain - 1] in self._open_ends:
            certain -= 1
        self._tell_up_to(certain)

    def end(self) -> None:
        """Tell the rest."""
        self._tell_up_to(len(self._ids))

    def _tell_up_to(self, number: int) -> None:
        text = self._tokenizer.decode(self._ids[:number], skip_special_tokens=True).strip()
        if len(text) > self._told:
            self._tell(text[self._told :])
            self._told = len(text)
