"""Filters by the form of sentences and lines, and by how far the text can be compressed."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

from kit.corpus.filters.punctuation import terminal_signs

if TYPE_CHECKING:
    from kit.config.filters import (
        Compression,
        FullStops,
        Length,
        MaximumShare,
        PunctuatedLines,
        SentenceLength,
    )
    from kit.corpus.filters.facts import Facts

_ELLIPSES = ("・", "…")
_BULLETS, _CUT_OFF = ("•", "-"), ("…", "...")
_END = terminal_signs()
_END_OR_QUOTE = _END | frozenset('」』）)”"')


def length(facts: Facts, rule: Length) -> bool:
    """Whether the document is too short or too long, without its line ends."""
    characters = sum(map(len, facts.lines))
    return characters < rule.min or (rule.max is not None and characters > rule.max)


def sentence_length(facts: Facts, rule: SentenceLength) -> bool:
    """Whether its sentences are too short or too long."""
    lengths = [*map(len, facts.sentences)] or [0]
    mean = sum(lengths) / len(lengths)
    return (
        mean < rule.min_mean
        or (rule.max_mean is not None and mean > rule.max_mean)
        or (rule.max is not None and max(lengths) > rule.max)
    )


def full_stops(facts: Facts, rule: FullStops) -> bool:
    """Whether it has too few 。 for its length."""
    return facts.text.count("。") < len(facts.text) / rule.every


def ellipses(facts: Facts, rule: MaximumShare) -> bool:
    """Whether too many of its sentences end with an ellipsis."""
    allowed = rule.max_share * len(facts.sentences)
    if sum(map(facts.text.count, _ELLIPSES)) <= allowed:  # anywhere
        return False
    return sum(sentence.strip().endswith(_ELLIPSES) for sentence in facts.sentences) > allowed


def punctuated_lines(facts: Facts, rule: PunctuatedLines) -> bool:
    """Whether too few of its lines end as a sentence does."""
    ends = _END_OR_QUOTE if rule.quotes else _END
    found = sum([line[-1] in ends for line in facts.lines])
    return found / len(facts.lines) < rule.min_share


def bullet_lines(facts: Facts, rule: MaximumShare) -> bool:
    """Whether too many of its lines begin as those of a list."""
    found = sum(line.lstrip().startswith(_BULLETS) for line in facts.lines)
    return found / len(facts.lines) > rule.max_share


def ellipsis_lines(facts: Facts, rule: MaximumShare) -> bool:
    """Whether too many of its lines end with an ellipsis."""
    found = sum(line.rstrip().endswith(_CUT_OFF) for line in facts.lines)
    return found / len(facts.lines) > rule.max_share


def compression(facts: Facts, rule: Compression) -> bool:
    """Whether zlib makes it too small or leaves it too large."""
    raw = facts.text.encode()
    ratio = len(zlib.compress(raw, 9)) / len(raw)
    return ratio < rule.min or (rule.max is not None and ratio > rule.max)
