"""What is compared: variants of one small recipe, as overrides, at a few sizes.

All comparisons share a baseline: GPT-2, AdamW, cosine, no dropout, the lossless tokenizer. A variant
differs from it by its overrides alone, and has the learning rate of RATES that suits it: see plan.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kit.config.recipe import Model
from kit.models import architectures

if TYPE_CHECKING:
    from pathlib import Path

VOCABULARY, ALPHABET = 2048, 1200  # entries, of which characters
LENGTH, BATCH = 128, 4  # tokens of a block, blocks of a step
# Peak learning rates, the same for every variant and size. Small models take larger ones than 3e-4.
RATES = (0.00064, 0.0016, 0.004, 0.01, 0.025)
HELD_OUT = 0.1  # of the documents: half to choose rates, half to compare variants


@dataclass(frozen=True)
class Size:
    """A size of model, in GPT-2's terms, and how long it is trained."""

    n_layer: int
    n_embd: int
    n_head: int
    steps: int  # of LENGTH x BATCH tokens


@dataclass(frozen=True)
class Comparison:
    """A question: whether `variant` leads to fewer bits per byte than the baseline."""

    name: str
    ours: str  # the baseline, in words
    theirs: str
    variant: str
    charged: bool = False  # counts the white space that a tokenizer drops, too


SIZES = {  # by their parameters without embeddings, 12 x layers x width^2
    "0.05M": Size(2, 48, 2, 640),
    "0.1M": Size(2, 64, 2, 640),
    "0.1M-4x": Size(2, 64, 2, 2560),  # whether a gain lasts: four times as long
    "0.3M": Size(3, 96, 3, 512),
    "1M": Size(5, 128, 4, 512),
}
BASELINE = "baseline"
VARIANTS: dict[str, tuple[str, ...]] = {
    BASELINE: (),
    "wsd": ("training.decay=wsd",),
    "dropout": ("model.dropout=0.1",),
    "article": ("tokenizer.spaces=article",),
    "muon": ("training.optimizer=muon",),
    "llama": ("model.architecture=llama", "model.tie_embeddings=true"),
}
COMPARISONS = (
    Comparison("optimizer", "adamw", "muon", "muon"),
    Comparison("architecture", "gpt2", "llama", "llama"),
    Comparison("schedule", "cosine", "wsd", "wsd"),
    Comparison("dropout", "0", "0.1", "dropout"),
    Comparison("tokenizer", "lossless", "article", "article"),
    Comparison("tokenizer, white space charged", "lossless", "article", "article", charged=True),
)


def tree(workspace: Path, sources: dict[str, Any]) -> dict[str, Any]:
    """The recipe that all runs share, to be written as a file; sizes and variants override it."""
    return {
        "name": "experiments",
        "workspace": str(workspace),
        "corpus": {"sources": sources, "held_out": HELD_OUT},
        "tokenizer": {"vocab_size": VOCABULARY, "limit_alphabet": ALPHABET},
        "model": {"n_layer": 1, "n_embd": 64, "n_head": 1, "n_positions": LENGTH},
        "training": {
            "steps": 1, "global_batch": BATCH, "micro_batch": BATCH, "precision": "fp32",
        },
        "tracking": {"mlflow": None, "tensorboard": False},
    }  # fmt: skip


def overrides(variant: str, size: Size, seed: int, rate: float) -> list[str]:
    """A run as overrides of the recipe."""
    given = [
        f"model.n_layer={size.n_layer}",
        f"model.n_embd={size.n_embd}",
        f"model.n_head={size.n_head}",
        f"training.steps={size.steps}",
        f"training.warmup_steps={size.steps // 10}",
        f"training.learning_rate={rate!r}",
        f"training.seed={seed}",
        *VARIANTS[variant],
    ]
    if variant == "llama":
        given.append(f"model.n_inner={equal_inner(size)}")
    return given


def equal_inner(size: Size) -> int:
    """The width of Llama's MLP that gives it as many parameters as GPT-2 has.

    Both embeddings are tied. GPT-2's positions and biases become a wider MLP.
    """
    gpt2 = Model(n_layer=size.n_layer, n_embd=size.n_embd, n_head=size.n_head, n_positions=LENGTH)
    wanted = architectures.of(gpt2).parameters(0)
    least, next_one = (architectures.of(_llama(gpt2, inner)).parameters(0) for inner in (1, 2))
    return 1 + round((wanted - least) / (next_one - least))


def _llama(gpt2: Model, inner: int) -> Model:
    changes = {"architecture": "llama", "tie_embeddings": True, "n_inner": inner}
    return gpt2.model_copy(update=changes)
