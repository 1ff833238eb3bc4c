"""A Unigram tokenizer from counted words, trained by sentencepiece.

sentencepiece ignores counts when it searches for its seed pieces, and finds hardly any at the end of a
word: unigram_seeds.py provides them instead. Some characters are special to it (U+2581, U+2585, tab): it
gets ranks of the alphabet encoded as characters, and never the characters of the text.
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

# The code points that encode the first rank of the alphabet: 41,984 fit before the surrogates, more go
# beyond 16 bits. sentencepiece treats no character of either range specially.
_SMALL, _SMALL_ROOM, _LARGE = 0x3400, 0xD800 - 0x3400, 0x10000
# Characters; longer words are cut, because sentencepiece's sums over a word are 32-bit floats.
_LONGEST = 256
_THREADS = 16  # fixed, not the number of CPUs: sums of floats depend on it


def train(words: Iterable[CountBatch], vocabulary: TokenizerSpec) -> Tokenizer:
    """Train a tokenizer of exactly `vocabulary.vocab_size` entries.

    Raises InputError if there are no words, or if they cannot yield that number of entries.
    """
    corpus = Words.from_counts(words)
    alphabet = corpus.alphabet(vocabulary.limit_alphabet)
    first = huggingface.first_entries(vocabulary.spaces)
    vocab_size, minimum = vocabulary.vocab_size, len(first) + len(alphabet)
    if minimum > vocab_size:
        raise too_few(vocab_size, minimum)
    pieces = _pieces(_within(corpus, alphabet), alphabet, vocab_size - len(first))
    if (count := len(first) + len(pieces)) < vocab_size:
        raise InputError(  # without a range as in BPE: for a smaller request it finds fewer
            f"tokenizer.vocab_size={vocab_size}: the corpus yields only {count} entries for Unigram; "
            f"lower it, to {minimum} at least, or add more text"
        )
    # Whatever their scores, the first entries never occur in text: each is a `<` with more after it.
    return huggingface.from_scores([*((entry, 0.0) for entry in first), *pieces], vocabulary.spaces)


def _within(words: Words, alphabet: Array) -> Words:
    """Words as ranks of the alphabet, cut at characters outside it and at the length limit."""
    ranks = words.ranks_in(alphabet)
    kept = ranks >= 0
    starts = np.cumsum(words.lengths, dtype=np.int64) - words.lengths
    head = (np.arange(len(ranks)) - np.repeat(starts, words.lengths)) % _LONGEST == 0
    head[1:] |= ~kept[:-1]
    heads = np.flatnonzero(head[kept])
    return Words(
        ranks[kept],
        np.diff(heads, append=np.count_nonzero(kept)).astype(np.int32),
        np.repeat(words.counts, words.lengths)[kept][heads],
    )


def _pieces(corpus: Words, alphabet: Array, limit: int) -> list[tuple[str, float]]:
    """The entries with their log-probabilities, in sentencepiece's order: `limit` of them, or fewer."""
    import sentencepiece

    size = len(alphabet)
    base = _SMALL if size < _SMALL_ROOM else _LARGE
    filler = chr(base + size)
    text = (corpus.codes + base).astype("<u4").tobytes().decode("utf-32-le")
    seeds = unigram_seeds.find(corpus.codes, corpus.lengths, corpus.counts)
    model = io.BytesIO()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "seeds.tsv"
        with file.open("w", encoding="utf-8") as lines:
            for start, length, count in seeds:
                lines.write(f"{text[start : start + length]}\t{count}\n")
        sentencepiece.SentencePieceTrainer.Train(
            sentence_iterator=_lines(text, corpus, filler),
            input_format="tsv",
            model_writer=model,
            model_type="unigram",
            vocab_size=min(limit, size + len(seeds)) + 2,  # for its own <unk> and the filler
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
    scores = (
        (trained.IdToPiece(number), trained.GetScore(number))
        for number in range(1, trained.GetPieceSize())
    )
    # Given more digits, tokenizers reads its file with an error in the last one.
    return [(piece.translate(names), round(score, 8)) for piece, score in scores if piece != filler]


def _lines(text: str, corpus: Words, filler: str) -> Iterator[str]:
    """Yield every word with its count, in sentencepiece's format.

    It takes characters, the required ones first, until their coverage, a 32-bit float, is 1.0; in a large
    corpus that happens before the rare ones. The filler, which is not required, keeps it below 1.0 until
    all required ones are taken.
    """
    cut: Counter[str] = Counter()  # merged: a run of one character gives many equal cuts
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
