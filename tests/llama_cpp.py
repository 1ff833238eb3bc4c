"""llama.cpp's tokenizers, rewritten from the rules of its src/llama-vocab.cpp (October 2026).

They read the keys of a GGUF file and nothing of the kit. This is no llama.cpp: the real one is run by
tests/programs/test_llama_cpp.py, where it is installed.
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_UNKNOWN, _INVALID = -10_000_000, -20_000_000  # plamo2's UNKNOWN_SCORE and INVALID_SCORE
_BYTE = 6  # of llama_token_type


class Vocabulary:
    """The tokenizer of a GGUF file."""

    def __init__(self, path: Path) -> None:
        from gguf import GGUFReader

        fields = GGUFReader(path).fields
        self.keys: dict[str, Any] = {name: field.contents() for name, field in fields.items()}
        self.tokens: list[str] = self.keys["tokenizer.ggml.tokens"]
        self.scores: list[float] = self.keys["tokenizer.ggml.scores"]
        self.types: list[int] = self.keys["tokenizer.ggml.token_type"]
        self.ids = {token: number for number, token in enumerate(self.tokens)}
        merges = [tuple(pair.split(" ")) for pair in self.keys.get("tokenizer.ggml.merges", [])]
        self.ranks = {pair: rank for rank, pair in enumerate(merges)}
        self._whole = {  # plamo2's scores, which are integers
            token: round(score * 1e4)
            for token, score, kind in zip(self.tokens, self.scores, self.types, strict=True)
            if kind != _BYTE
        }
        self._longest = max(map(len, self._whole))

    def tokenize(self, text: str) -> list[int]:
        """The ids of a text, in which special tokens are text."""
        sessions: dict[str, Callable[[str], list[int]]] = {
            "llama": self._spm,
            "gpt2": self._bpe,
            "plamo2": self._plamo2,
        }
        return sessions[self.keys["tokenizer.ggml.model"]](text)

    def text(self, ids: list[int]) -> str:
        """The text of ids without special tokens."""
        raw = b""
        for number in ids:
            token, kind = self.tokens[number], self.types[number]
            if kind == _BYTE:
                raw += bytes([int(token[3:5], 16)])
            elif kind == 1:
                is_plain = self.keys["tokenizer.ggml.model"] == "plamo2"
                raw += (token if is_plain else token.replace("▁", " ")).encode()
        return raw.decode(errors="replace")

    def _spm(self, text: str) -> list[int]:
        def score(left: str, right: str) -> float | None:
            number = self.ids.get(left + right)
            return None if number is None else -self.scores[number]

        return [
            number
            for symbol in _merged(text.replace(" ", "▁"), score)
            for number in ([self.ids[symbol]] if symbol in self.ids else self._bytes(symbol))
        ]

    def _bpe(self, text: str) -> list[int]:
        assert self.keys["tokenizer.ggml.pre"] == "sarvam-moe"
        found = []
        for line in text.replace(" ", "▁").splitlines(keepends=True):
            for symbol in _merged(line, lambda left, right: self.ranks.get((left, right))):
                bytes_ = [name for name in _byte_names(symbol) if name in self.ids]
                names = [symbol] if symbol in self.ids else bytes_
                found += [self.ids[name] for name in names]
        return found

    def _plamo2(self, text: str) -> list[int]:
        text = text.removeprefix("\ufeff")
        scores, longest = self._whole, self._longest
        costs, steps = [0] * (len(text) + 1), [0] * len(text)
        for start in reversed(range(len(text))):
            costs[start], steps[start] = costs[start + 1] - _UNKNOWN, 0
            for length in range(min(longest, len(text) - start), 0, -1):
                score = scores.get(text[start : start + length], _INVALID)
                cost = costs[start + length] - score
                if score > _INVALID and cost < costs[start]:
                    costs[start], steps[start] = cost, length
        found, at = list[int](), 0
        while at < len(text):
            piece = text[at : at + max(steps[at], 1)]
            found += [self.ids[piece]] if steps[at] else self._bytes(piece)
            at += len(piece)
        return found

    def _bytes(self, symbol: str) -> list[int]:
        return [self.ids[name] for name in _byte_names(symbol)]


def _byte_names(symbol: str) -> list[str]:
    return [f"<0x{byte:02X}>" for byte in symbol.encode()]


def _merged(text: str, order: Callable[[str, str], float | None]) -> list[str]:
    """The symbols of a text after all merges, the lowest order first, of equal ones the leftmost."""
    symbols = list(text)
    before = [*range(-1, len(symbols) - 1)]
    after = [*range(1, len(symbols)), -1]
    queue: list[tuple[float, int, int, str]] = []

    def offer(left: int, right: int) -> None:
        if left < 0 or right < 0:
            return
        rank = order(symbols[left], symbols[right])
        if rank is not None:
            heapq.heappush(queue, (rank, left, right, symbols[left] + symbols[right]))

    for right in range(1, len(symbols)):
        offer(right - 1, right)
    while queue:
        _, left, right, merged = heapq.heappop(queue)
        if not symbols[left] or not symbols[right] or symbols[left] + symbols[right] != merged:
            continue
        symbols[left], symbols[right] = merged, ""
        after[left] = after[right]
        if after[right] >= 0:
            before[after[right]] = left
        offer(before[left], left)
        offer(left, after[left])
    return [symbol for symbol in symbols if symbol]
