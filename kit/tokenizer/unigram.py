"""A Unigram tokenizer from counted words, trained by sentencepiece.

sentencepiece takes no count into account when it looks for the pieces to begin with, and from words it
finds hardly any that end with one: it is given `seeds` instead. Some characters have a meaning to it
(U+2581, U+2585, tab): it sees ranks of the alphabet as characters, and knows nothing of the text's own.
"""

from __future__ import annotations

import io
import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kit.errors import InputError
from kit.tokenizer import huggingface, unigram_seeds
from kit.tokenizer.words import Words, too_few

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tokenizers import Tokenizer

    from kit.config.tokenizer import TokenizerSpec
    from kit.tokenizer.counts import CountBatch

    Array = np.ndarray[Any, Any]

# What stands for the first character of the alphabet: 41,984 follow it before the surrogates, or all
# the code points beyond 16 bits. In neither range does a character mean anything to sentencepiece.
_SMALL, _SMALL_ROOM, _LARGE = 0x3400, 0xD800 - 0x3400, 0x10000
# Characters: longer words are cut, as sentencepiece's sums over a word are 32-bit floats.
_LONGEST = 256
_THREADS = 16  # not the number of CPUs: sums of floats depend on it


def train(words: Iterable[CountBatch], vocabulary: TokenizerSpec) -> Tokenizer:
    """A tokenizer of exactly `vocabulary.vocab_size` entries.

    Raises InputError for no words at all, and for more or fewer entries than they can give.
    """
    corpus = Words.of(words)
    alphabet = corpus.alphabet(vocabulary.limit_alphabet)
    first = huggingface.first_entries(vocabulary.spaces)
    wanted, least = vocabulary.vocab_size, len(first) + len(alphabet)
    if least > wanted:
        raise too_few(wanted, least)
    pieces = _pieces(_within(corpus, alphabet), alphabet, wanted - len(first))
    if (found := len(first) + len(pieces)) < wanted:
        raise InputError(  # no range, as in BPE: with fewer asked for, it finds fewer
            f"tokenizer.vocab_size={wanted}: the corpus gives only {found} entries to Unigram; ask for "
            f"fewer, {least} at least, or give more text"
        )
    # What comes first is never found in text, whatever its score: it holds a `<` and more.
    return huggingface.from_scores([*((entry, 0.0) for entry in first), *pieces], vocabulary.spaces)


def _within(words: Words, alphabet: Array) -> Words:
    """Words as ranks of the alphabet, cut at what is not of it and where they are too long."""
    found = words.ranked(alphabet)
    kept = found >= 0
    starts = np.cumsum(words.lengths, dtype=np.int64) - words.lengths
    head = (np.arange(len(found)) - np.repeat(starts, words.lengths)) % _LONGEST == 0
    head[1:] |= ~kept[:-1]
    heads = np.flatnonzero(head[kept])
    return Words(
        found[kept],
        np.diff(heads, append=np.count_nonzero(kept)).astype(np.int32),
        np.repeat(words.counts, words.lengths)[kept][heads],
    )


def _pieces(corpus: Words, alphabet: Array, wanted: int) -> list[tuple[str, float]]:
    """The entries and their log-probabilities as sentencepiece ranks them: `wanted` of them, or fewer."""
    import sentencepiece

    size = len(alphabet)
    base = _SMALL if size < _SMALL_ROOM else _LARGE
    filler = chr(base + size)
    text = (corpus.codes + base).astype("<u4").tobytes().decode("utf-32-le")
    begun = unigram_seeds.find(corpus.codes, corpus.lengths, corpus.counts)
    model = io.BytesIO()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "seeds.tsv"
        with file.open("w", encoding="utf-8") as lines:
            for start, length, count in begun:
                lines.write(f"{text[start : start + length]}\t{count}\n")
        sentencepiece.SentencePieceTrainer.Train(
            sentence_iterator=_lines(text, corpus, filler),
            input_format="tsv",
            model_writer=model,
            model_type="unigram",
            vocab_size=min(wanted, size + len(begun)) + 2,  # its own <unk>, and the filler
            hard_vocab_limit=False,  # the caller counts what came out
            seed_sentencepieces_file=str(file),
            max_sentencepiece_length=unigram_seeds.LONGEST,
            required_chars="".join(chr(base + rank) for rank in range(size)),
            character_coverage=1.0,
            normalization_rule_name="identity",
            add_dummy_prefix=False,
            remove_extra_whitespaces=False,
            split_by_whitespace=False,
            split_by_unicode_script=False,
            split_by_number=False,
            unk_id=0,
            bos_id=-1,
            eos_id=-1,
            num_threads=_THREADS,
            minloglevel=2,  # errors
        )
    trained = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    names = {base + rank: code for rank, code in enumerate(alphabet.tolist())}
    found = (
        (trained.IdToPiece(number), trained.GetScore(number))
        for number in range(1, trained.GetPieceSize())
    )
    # tokenizers reads numbers of more digits from its file with an error in the last.
    return [(piece.translate(names), round(score, 8)) for piece, score in found if piece != filler]


def _lines(text: str, corpus: Words, filler: str) -> Iterator[str]:
    """Every word with its count, as sentencepiece reads them.

    It takes characters, the required ones first, until a coverage in 32-bit floats is 1.0, which in a
    large corpus it is before the rare ones: the filler, which is not required, keeps it below until they
    are all there.
    """
    cut: Counter[str] = Counter()  # of one character a million times over only a few differ
    start = 0
    for length, count in zip(corpus.lengths.tolist(), corpus.counts.tolist(), strict=True):
        word = text[start : start + length]
        start += length
        if length == _LONGEST:
            cut[word] += count
        else:
            yield f"{word}\t{count}"
    yield from (f"{word}\t{count}" for word, count in cut.items())
    yield f"{filler}\t{int(corpus.lengths @ corpus.counts) // 2**20 + 1}"
