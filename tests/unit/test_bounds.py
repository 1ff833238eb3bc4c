"""What numbers a recipe and a cluster file may hold."""

from __future__ import annotations

import types
import typing
from typing import TYPE_CHECKING, Any, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel

from kit.config.cluster import Cluster
from kit.config.recipe import Recipe

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic.fields import FieldInfo

# Of every number that is not named here: it is greater than 0.
OTHERS = {
    "training.seed": ">= 0, < 9223372036854775808",  # torch's
    "release.grid_gco2_per_kwh": ">= 0, <= 2000",
    "release.pue": ">= 1, <= 5",
    "release.seed": ">= 0, < 9223372036854775808",
    "corpus.held_out": "> 0, < 0.5",
    "corpus.filters.length.min": ">= 0",
    "corpus.filters.japanese.min_share": "> 0, <= 1",
    "corpus.filters.symbols.max_share": ">= 0, < 1",
    "corpus.filters.ellipses.max_share": ">= 0, < 1",
    "corpus.filters.punctuated_lines.min_share": "> 0, <= 1",
    "corpus.filters.japanese_letters.min": ">= 0",
    "corpus.filters.japanese_letters.min_share": ">= 0, <= 1",
    **{
        f"corpus.filters.{script}.{bound}_share": ">= 0, <= 1"
        for script in ("hiragana", "katakana", "kanji")
        for bound in ("min", "max")
    },
    **{
        f"corpus.filters.{of}.{share}": ">= 0, <= 1"
        for of in ("repeated_lines", "repeated_sentences")
        for share in ("max_share", "max_character_share")
    },
    "corpus.filters.sentence_length.min_mean": ">= 0",
    "corpus.filters.word_count.min": ">= 0",
    "corpus.filters.word_length.min_mean": ">= 0",
    "corpus.filters.stop_words.min": "> 0",
    "corpus.filters.words_with_letters.min_share": "> 0, <= 1",
    "corpus.filters.bullet_lines.max_share": ">= 0, < 1",
    "corpus.filters.ellipsis_lines.max_share": ">= 0, < 1",
    "corpus.filters.hashes_per_word.max": ">= 0",
    "corpus.filters.ellipses_per_word.max": ">= 0",
    "corpus.filters.line_ends_per_word.max": ">= 0",
    "corpus.filters.compression.min": ">= 0",
    "corpus.filters.words.max": ">= 0",
    "corpus.filters.hojichar.arguments": "",
    "corpus.filters.near_duplicates.ngram": "> 0, <= 100",
    "corpus.filters.near_duplicates.bands": "> 0, <= 200",
    "corpus.filters.near_duplicates.rows": "> 0, <= 100",
    "tokenizer.vocab_size": "> 3, <= 2147483647",  # the special tokens, and 32 bits
    "tokenizer.candidates.vocab_size": "> 3, <= 2147483647",
    "tokenizer.choose.margin": ">= 0, < 1",
    "model.n_positions": "> 1",  # a block of one token has none to predict
    "model.rope_theta": ">= 1, <= 1000000000000.0",  # outside, fp32 loses the positions of most dimensions
    "model.dropout": ">= 0, < 1",
    "training.minimum_learning_rate": ">= 0",
    "training.warmup_steps": ">= 0",
    "training.decay_share": "> 0, <= 1",
    "training.weight_decay": ">= 0",
    "training.muon_momentum": ">= 0, < 1",
    "training.z_loss": "> 0, <= 0.1",
    "training.beta1": ">= 0, < 1",
    "training.beta2": ">= 0, < 1",
    "training.keep": ">= 2",  # one may be broken
    "training.health.gradient_spike": "> 1",
    "training.health.window": "> 9",  # a median is taken from ten steps on
    "release.top_p": "> 0, <= 1",
    "alerts.repeat": ">= 60",
    "alerts.timeout": "> 0, <= 300",
    "cluster.network.gpus": ">= 0",
    "cluster.network.retries": ">= 0",
    "cluster.arrays.gpus": ">= 0",
    "cluster.arrays.retries": ">= 0",
    "cluster.single.gpus": ">= 0",
    "cluster.single.retries": ">= 0",
    "cluster.training.gpus_per_node": ">= 0",
    "cluster.training.failures": ">= 0",
}


def parts(annotation: Any) -> Iterator[Any]:
    """The types an annotation is made of, whatever holds them."""
    if get_origin(annotation) in (types.UnionType, typing.Union, list, tuple, dict):
        for part in get_args(annotation):
            yield from parts(part)
    else:
        yield annotation


def numbers(kind: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """The numeric keys of a section and of those below."""
    for name, field in kind.model_fields.items():
        for part in parts(field.annotation):
            if isinstance(part, type) and issubclass(part, BaseModel):
                yield from numbers(part, f"{prefix}{name}.")
            elif part in (int, float):
                yield f"{prefix}{name}", field


def bounds(field: FieldInfo) -> str:
    """As `> 0, <= 1`."""
    signs = {Gt: "> {0.gt}", Ge: ">= {0.ge}", Lt: "< {0.lt}", Le: "<= {0.le}"}
    return ", ".join(signs[type(one)].format(one) for one in field.metadata if type(one) in signs)


def test_every_number_has_its_bounds() -> None:
    found = {key: bounds(field) for key, field in (*numbers(Recipe), *numbers(Cluster, "cluster."))}
    assert len(found) > 70
    assert found == {key: OTHERS.get(key, "> 0") for key in found}
    assert set(OTHERS) <= set(found)
