"""Released folders without training, and what their readers are asked."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from kit.config import relocation
from kit.data.shards import BOUNDARY
from kit.data.tokens import TokenizerInfo
from kit.release import model_files, tokenizer_files
from kit.store.files import write_json
from kit.tokenizer import huggingface

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tokenizers import Tokenizer

    from kit.config.recipe import Recipe

LOOKALIKES = ("</s>", "<s>", "<pad>", "<unk>", "<0x41>", "< /s>", "</ s>")


def untrained(folder: Path, recipe: Recipe, tokenizer: Tokenizer) -> Path:
    """The release of a model as it is before its first step; returns its folder."""
    import torch

    from kit.training import language_model

    torch.manual_seed(0)
    own = folder / "tokenizer"
    huggingface.save(tokenizer, own)
    vocabulary = TokenizerInfo(tokenizer.get_vocab_size(), begin=1, end=2)
    trained = language_model.LanguageModel(recipe, vocabulary).state_dict()
    model = language_model.to_release(recipe.model, vocabulary, torch.float32)
    model.load_state_dict(language_model.release_weights(trained, recipe.model, vocabulary.size))
    model_files.set_generation(model, recipe.release)
    export = folder / "export"
    model_files.save(model, export)
    tokenizer_files.save(own, recipe.release, recipe.model.n_positions, export)
    write_json(export / "recipe.json", relocation.for_release(recipe.model_dump(mode="json")))
    return export


def texts(lines: Sequence[str], number: int) -> list[str]:
    """So many texts: parts of the lines, raw and cut into words, some with what looks like a token."""
    draw = random.Random(0)
    made = []
    for _ in range(number):
        line = draw.choice(lines)
        begin = draw.randrange(len(line))
        text = line[begin : begin + draw.randint(1, 60)]
        for _ in range(draw.randint(0, 3)):
            place = draw.randint(0, len(text))
            what = draw.choice((BOUNDARY, BOUNDARY, BOUNDARY, " ", "\n", "👨‍👩‍👧", *LOOKALIKES))
            text = text[:place] + what + text[place:]
        made.append(text)
    return made
