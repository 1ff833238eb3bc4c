"""A vocabulary as a HF tokenizer, in the form AutoTokenizer loads, and back from its folder.

Three special tokens come first; in lossless mode the 256 bytes follow, which stand for the characters
that are no entries.

lossless  a space is `SPACE` and begins a piece, a line feed is `LINE_END` and is one; `BOUNDARY` cuts
          segmented text at its words, raw text goes without. Decoding gives back the text, every
          character of it. A `<` is a piece by itself, so that no entry is ever learnt that looks
          like a special token or a byte.
article   HF's Whitespace cuts, as a published Japanese GPT-2 had it: at spaces, which are lost, and
          between letters and signs. What is no entry is `<unk>`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kit.data.shards import BOUNDARY, LINE_END, SPACE
from kit.store.files import write_json, write_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from tokenizers import Tokenizer

SPECIAL = UNKNOWN, BEGIN, END = "<unk>", "<s>", "</s>"  # END closes a document
BYTES = tuple(f"<0x{byte:02X}>" for byte in range(256))
FILE, SETTINGS = "tokenizer.json", "tokenizer_config.json"

# A `<`; a line end; a space with what follows it; else a run of the rest. BOUNDARY is in none of them: it
# cuts, and vanishes.
PIECES = f"<|{LINE_END}|{SPACE}[^{SPACE}{LINE_END}<{BOUNDARY}]*|[^{SPACE}{LINE_END}<{BOUNDARY}]+"


def first_entries(spaces: str) -> tuple[str, ...]:
    """The entries that come before the alphabet."""
    return SPECIAL if spaces == "article" else (*SPECIAL, *BYTES)


def surface(text: str, spaces: str) -> str:
    """Segmented text of a shard (sentences, words or whole documents) as the tokenizer takes it.

    Encoding its words one by one gives the tokens of encoding it whole.
    """
    if spaces == "article":
        return text.replace(SPACE, "").replace(LINE_END, "")
    return text.replace(" ", BOUNDARY).replace("\n", BOUNDARY)


def pre_tokenizer(spaces: str) -> Any:
    """What cuts text into the pieces that no token crosses: one of HF's pre-tokenizers."""
    from tokenizers import Regex, pre_tokenizers

    if spaces == "article":
        return pre_tokenizers.Whitespace()
    return pre_tokenizers.Split(Regex(PIECES), behavior="removed", invert=True)


def from_merges(
    entries: Sequence[str], merges: Iterable[tuple[str, str]], spaces: str
) -> Tokenizer:
    """A BPE tokenizer; ids follow the order of the entries, ranks that of the merges."""
    from tokenizers import Tokenizer, models

    model = models.BPE(
        vocab={entry: number for number, entry in enumerate(entries)},
        merges=list(merges),
        unk_token=UNKNOWN,
        byte_fallback=spaces == "lossless",
    )
    return _around(Tokenizer(model), spaces)


def from_scores(scores: Sequence[tuple[str, float]], spaces: str) -> Tokenizer:
    """A Unigram tokenizer of (entry, log-probability); ids follow their order."""
    from tokenizers import Tokenizer, models

    model = models.Unigram(list(scores), unk_id=0, byte_fallback=spaces == "lossless")
    return _around(Tokenizer(model), spaces)


def save(tokenizer: Tokenizer, folder: Path) -> None:
    """Write the files AutoTokenizer.from_pretrained reads."""
    write_text(folder / FILE, tokenizer.to_str(pretty=True))
    settings: Mapping[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "unk_token": UNKNOWN,
        "bos_token": BEGIN,
        "eos_token": END,
        "pad_token": END,
        "model_input_names": ["input_ids", "attention_mask"],  # GPT-2 would add types of tokens
        "clean_up_tokenization_spaces": False,
        "split_special_tokens": True,  # text like `</s>` is text; END is for its id
    }
    write_json(folder / SETTINGS, settings)


def load(folder: Path) -> Tokenizer:
    """The tokenizer of a folder, for which text that looks like a special token is text."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / FILE))
    tokenizer.encode_special_tokens = True  # not kept in the file
    return tokenizer


def _around(tokenizer: Tokenizer, spaces: str) -> Tokenizer:
    """The model with all that stands before and behind it."""
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
