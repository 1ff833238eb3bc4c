"""Build HF tokenizers and save them in the form AutoTokenizer loads; kit/data/tokenizer_file.py loads them.

Three special tokens come first; in lossless mode the 256 bytes follow, for characters that are not
entries.

lossless  a space is `SPACE` and begins a piece, a line feed is the piece `LINE_END`; `BOUNDARY` cuts
          segmented text at its words, raw text has none. Decoding restores every character of the
          text. A `<` is always a separate piece, so that no learnt entry can look like a special
          token or a byte.
article   HF's Whitespace, as in a published Japanese GPT-2, cuts at spaces, which are lost, and
          between letters and signs. A character that is not an entry is `<unk>`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kit.data import tokenizer_file
from kit.data.shards import BOUNDARY, LINE_END, SPACE
from kit.store.files import write_json, write_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from tokenizers import Tokenizer

SPECIAL = UNKNOWN, BEGIN, END = "<unk>", "<s>", "</s>"  # END closes a document
BYTES = tuple(f"<0x{byte:02X}>" for byte in range(256))
FILE, SETTINGS = tokenizer_file.FILE, "tokenizer_config.json"

# A `<`; a line end; a space with the run after it; or a run of anything else. BOUNDARY is in none of
# them: it separates pieces, and vanishes.
PIECES = f"<|{LINE_END}|{SPACE}[^{SPACE}{LINE_END}<{BOUNDARY}]*|[^{SPACE}{LINE_END}<{BOUNDARY}]+"


def first_entries(spaces: str) -> tuple[str, ...]:
    """The entries that come before the alphabet."""
    return SPECIAL if spaces == "article" else (*SPECIAL, *BYTES)


def surface(text: str, spaces: str) -> str:
    """Convert segmented text of a shard (sentences, words or documents) to input of the tokenizer.

    Encoding its words one by one gives the same tokens as encoding all of it.
    """
    if spaces == "article":
        return text.replace(SPACE, "").replace(LINE_END, "")
    return text.replace(" ", BOUNDARY).replace("\n", BOUNDARY)


def pre_tokenizer(spaces: str) -> Any:
    """The HF pre-tokenizer that cuts text into pieces, which no token crosses."""
    from tokenizers import Regex, pre_tokenizers

    if spaces == "article":
        return pre_tokenizers.Whitespace()
    return pre_tokenizers.Split(Regex(PIECES), behavior="removed", invert=True)


def from_merges(
    entries: Sequence[str], merges: Iterable[tuple[str, str]], spaces: str
) -> Tokenizer:
    """Build a BPE tokenizer; ids follow the order of the entries, ranks that of the merges."""
    from tokenizers import Tokenizer, models

    model = models.BPE(
        vocab={entry: number for number, entry in enumerate(entries)},
        merges=list(merges),
        unk_token=UNKNOWN,
        byte_fallback=spaces == "lossless",
    )
    return _with_pipeline(Tokenizer(model), spaces)


def from_scores(scores: Sequence[tuple[str, float]], spaces: str) -> Tokenizer:
    """Build a Unigram tokenizer of (entry, log-probability); ids follow their order."""
    from tokenizers import Tokenizer, models

    model = models.Unigram(list(scores), unk_id=0, byte_fallback=spaces == "lossless")
    return _with_pipeline(Tokenizer(model), spaces)


def save(tokenizer: Tokenizer, folder: Path) -> None:
    """Write the files that AutoTokenizer.from_pretrained reads."""
    write_text(folder / FILE, tokenizer.to_str(pretty=True))
    settings: Mapping[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "unk_token": UNKNOWN,
        "bos_token": BEGIN,
        "eos_token": END,
        "pad_token": END,
        "model_input_names": ["input_ids", "attention_mask"],  # GPT-2 would add types of tokens
        "clean_up_tokenization_spaces": False,
        "split_special_tokens": True,  # `</s>` in a text is text, never the id of END
    }
    write_json(folder / SETTINGS, settings)


def _with_pipeline(tokenizer: Tokenizer, spaces: str) -> Tokenizer:
    """Add normalizer, pre-tokenizer, decoder and special tokens to a model."""
    from tokenizers import AddedToken, decoders, normalizers

    tokenizer.pre_tokenizer = pre_tokenizer(spaces)
    if spaces == "article":
        tokenizer.decoder = decoders.Fuse()
    else:
        tokenizer.normalizer = normalizers.Sequence(
            [normalizers.Replace(" ", SPACE), normalizers.Replace("\n", LINE_END)]
        )
        tokenizer.decoder = decoders.Sequence(
            [
                decoders.ByteFallback(),
                decoders.Fuse(),
                decoders.Replace(SPACE, " "),
                decoders.Replace(LINE_END, "\n"),
            ]
        )
    tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in SPECIAL])
    tokenizer.encode_special_tokens = True
    return tokenizer
