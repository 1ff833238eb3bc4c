"""Byte-pair encoding by HF tokenizers, in the form AutoTokenizer loads: the tokenizer stage.

Words are what stands between spaces. Decoding joins the tokens and turns the marks of a shard back
into spaces and line ends, so that the model writes plain text.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kit import manifest, shards, stage, tokens
from kit.config import Recipe
from kit.errors import InputError
from kit.files import write_json
from kit.sections import read_resolved
from kit.workspace import Run, Workspace

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tokenizers import Tokenizer

SPECIAL = ("<unk>", "<s>", "</s>")
END = "</s>"  # closes a document
_BYTES = tuple(f"<0x{byte:02X}>" for byte in range(256))


def units(recipe: Recipe) -> list[stage.Unit]:
    """The one unit of the stage. Raises StageError while a shard is missing."""
    made = shards.complete(recipe)
    causes = tokens.tokenizer_causes(recipe)
    paths = [shards.part_file(shard.folder, shards.TRAIN) for shard in made]

    def make(folder: Path) -> Mapping[str, Any]:
        _check_documents(recipe, made)
        tokenizer = train(recipe, paths)
        save(tokenizer, folder)
        return {"entries": tokenizer.get_vocab_size()}

    return [stage.Unit("tokenizer", Workspace(Path(recipe.workspace)).tokenizer, causes, make)]


def work(run: Run, task: int, tasks: int) -> None:
    """What a submitted task runs; the run directory is all it reads."""
    stage.run("tokenizer", units(read_resolved(run.recipe, Recipe)), task, tasks)


def train(recipe: Recipe, paths: list[Path]) -> Tokenizer:
    """A tokenizer of exactly `tokenizer.vocab_size` entries from training shards.

    Raises InputError for an empty corpus, and for a vocabulary larger or smaller than it can give.
    """
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    section = recipe.tokenizer
    characters: Counter[str] = Counter()
    for sentence in _sentences(paths):
        characters.update(sentence)
    del characters[" "]
    if not characters:
        raise InputError(
            f"corpus.sources: the corpus is empty: {', '.join(recipe.corpus.sources)} hold no text"
        )
    # The trainer breaks ties among the rarest characters by hash order: so we choose the alphabet.
    ranked = sorted(characters, key=lambda character: (-characters[character], character))
    alphabet = sorted(ranked[: section.limit_alphabet])
    bytes_ = _BYTES if section.byte_fallback else ()
    trainer = trainers.BpeTrainer(
        vocab_size=section.vocab_size,
        min_frequency=section.min_frequency,
        special_tokens=[*SPECIAL, *bytes_],
        initial_alphabet=alphabet,
        limit_alphabet=len(alphabet),
        show_progress=False,
    )
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    trained.train_from_iterator(_sentences(paths), trainer)
    entries = trained.get_vocab_size()
    if entries != section.vocab_size:
        least = len(SPECIAL) + len(bytes_) + len(alphabet)
        what = f"the corpus gives only {entries} entries; ask for {least} to {entries}"
        if entries > section.vocab_size:
            what = (
                f"special tokens, bytes and alphabet alone are {least}; ask for more, or lower "
                "tokenizer.limit_alphabet"
            )
        raise InputError(f"tokenizer.vocab_size={section.vocab_size}: {what}")
    return assemble(trained, byte_fallback=section.byte_fallback)


def assemble(trained: Tokenizer, *, byte_fallback: bool) -> Tokenizer:
    """The tokenizer with the vocabulary and merges of a trained one.

    Bytes, which the trainer takes for special tokens, become plain entries; three real ones remain.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    model = json.loads(trained.to_str())["model"]
    # Text like `</s>`, were it frequent, would be merged into the entry of that name.
    reserved = {*SPECIAL, *_BYTES}
    tokenizer = Tokenizer(
        models.BPE(
            vocab=model["vocab"],
            merges=[
                (left, right)
                for left, right in model["merges"]
                if not reserved & {left, right, left + right}
            ],
            unk_token=SPECIAL[0],
            byte_fallback=byte_fallback,
        )
    )
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.decoder = decoders.Sequence(
        [
            *([decoders.ByteFallback()] if byte_fallback else []),
            decoders.Fuse(),
            decoders.Replace(shards.SPACE, " "),
            decoders.Replace(shards.LINE_END, "\n"),
        ]
    )
    tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in SPECIAL])
    return tokenizer


def save(tokenizer: Tokenizer, folder: Path) -> None:
    """Write the files AutoTokenizer.from_pretrained reads."""
    tokenizer.save(str(folder / "tokenizer.json"))
    unk, begin, end = SPECIAL
    write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "unk_token": unk,
            "bos_token": begin,
            "eos_token": end,
            "pad_token": end,
            "clean_up_tokenization_spaces": False,
        },
    )


def _check_documents(recipe: Recipe, made: list[shards.Shard]) -> None:
    """Raises InputError where all documents are held out, or none is."""
    facts = [manifest.read(shard.folder, "jobs.preprocess")["counts"] for shard in made]
    train, held_out = (
        sum(counts[part].get("documents", 0) for counts in facts) for part in shards.PARTS
    )
    if train + held_out and not (train and held_out):
        missing = "is held out" if train else "is left for training"
        raise InputError(
            f"corpus.held_out={recipe.corpus.held_out}: of {train + held_out} documents none {missing}; "
            "change it, or give more text"
        )


def _sentences(paths: list[Path]) -> Iterator[str]:
    for path in paths:
        for document in shards.read(path):
            yield from document
