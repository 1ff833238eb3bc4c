"""The real llama.cpp on GGUF files of the kit: ids of 10,000 sentences, and greedy text.

    pip install llama-cpp-python       # compiles llama.cpp; not a dependency of the kit
    DUMP=jawiki-head.xml.bz2 python -m pytest -m trial tests/programs/test_llama_cpp.py

Without that package, the tests of test_gguf.py hold llama.cpp's rules as they were rewritten.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
import torch
import transformers
from tokenizers import models

from kit.config.recipe import Model
from kit.config.tokenizer import TokenizerSpec
from kit.data import tokenizer_file
from kit.data.shards import plain_text
from kit.models import architectures
from kit.release import gguf_file
from kit.tokenizer import bpe, huggingface, unigram
from kit.tokenizer.count import count
from tests.dump import needs_dump
from tests.programs.test_vocabularies import dump

if TYPE_CHECKING:
    from pathlib import Path

    from tokenizers import Tokenizer

llama_cpp = pytest.importorskip("llama_cpp")
# A tokenizer is trained, and 10,000 sentences are encoded twice.
pytestmark = [pytest.mark.trial, pytest.mark.timeout(1800), needs_dump]

SENTENCES, POSITIONS = 10_000, 64
# Runs of one sign, such as 111, which two paths through the same entries make equally likely.
TIES = 100
PIECE = 32  # bytes; llama-cpp-python 0.3 drops longer entries from a text
MARGIN = 0.01  # between logits: llama.cpp computes gelu from a table in half precision


@pytest.fixture(scope="module")
def texts() -> list[str]:
    """Real text, a sentence a document; the first are held out."""
    return [text for text in itertools.islice(dump(), 5 * SENTENCES) if text.strip()]


# Shapes beyond the width and the number of layers.
SHAPES: dict[str, dict[str, Any]] = {
    "gpt2": {},
    "llama": {"architecture": "llama", "n_kv_head": 2, "rope_theta": 5e5},
    "llama, tied": {"architecture": "llama", "n_kv_head": 1, "tie_embeddings": True},
    "qwen3": {"architecture": "llama", "n_kv_head": 2, "qk_norm": True, "rope_theta": 5e5},
    "qwen3, tied": {"architecture": "llama", "qk_norm": True, "tie_embeddings": True},
}


class Made(NamedTuple):
    """A tokenizer, its mode, a model, and both as a GGUF file."""

    tokenizer: Tokenizer
    spaces: str
    model: Any
    path: Path


@pytest.fixture(
    scope="module", params=[("bpe", "lossless"), ("unigram", "lossless"), ("bpe", "article")]
)
def made(
    request: pytest.FixtureRequest, texts: list[str], tmp_path_factory: pytest.TempPathFactory
) -> Made:
    algorithm, spaces = request.param
    spec = TokenizerSpec(algorithm=algorithm, vocab_size=8000, limit_alphabet=3000, spaces=spaces)
    words = count(texts[SENTENCES:], spaces, tmp_path_factory.mktemp("counts"))
    trained = bpe.train(words, spec, 2) if algorithm == "bpe" else unigram.train(words, spec)
    folder = tmp_path_factory.mktemp("model")
    huggingface.save(trained, folder)
    tokenizer = tokenizer_file.load(folder)
    return saved(tokenizer, spaces, "gpt2", folder)


def saved(tokenizer: Tokenizer, spaces: str, shape: str, folder: Path) -> Made:
    """A model of that shape, and its file."""
    torch.manual_seed(0)
    section = Model(n_positions=POSITIONS, n_embd=64, n_layer=2, n_head=4, **SHAPES[shape])
    architecture = architectures.of(section)
    config = architecture.configuration(8000, begin=2, end=2)
    config.pad_token_id = 1
    config.use_cache = True
    config.initializer_range = 0.2  # far from ties between tokens
    model = getattr(transformers, architecture.model_class)(config).eval()
    for name, weight in model.named_parameters():
        if "norm" in name:  # not all alike: each has its place
            torch.nn.init.uniform_(weight, 0.5, 1.5)
    path = folder / f"{shape}.gguf"
    gguf_file.save(model, tokenizer, path, "f32", name="trial", license_name="other")
    return Made(tokenizer, spaces, model, path)


def test_the_ids_are_those_of_the_tokenizer(made: Made, texts: list[str]) -> None:
    tokenizer, spaces, _, path = made
    reader = llama_cpp.Llama(str(path), vocab_only=True, verbose=False)

    def ids_of(text: str) -> list[int]:
        found: list[int] = reader.tokenize(text.encode(), add_bos=False, special=False)
        return found

    def known(text: str) -> list[int]:
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        return [number for number in ids if spaces == "lossless" or number]

    ties = 0
    for text in texts[:SENTENCES]:
        sentence = text.removesuffix("\n")
        words = [ids_of(plain_text([word])) for word in sentence.split(" ")]
        by_word = [*itertools.chain.from_iterable(words)]
        raw = plain_text([sentence])
        for given, found in ((raw, ids_of(raw)), (huggingface.surface(text, spaces), by_word)):
            if found != known(given):
                assert sorted(found) == sorted(known(given)), given
                ties += 1
    assert ties <= (TIES if isinstance(tokenizer.model, models.Unigram) else 0)


@pytest.mark.parametrize("shape", SHAPES)
def test_greedy_text_and_logits_are_those_of_transformers(
    made: Made, shape: str, texts: list[str], tmp_path: Path
) -> None:
    tokenizer, _, model, path = saved(made.tokenizer, made.spaces, shape, tmp_path)
    whole = 0  # GGML_TYPE_F32: by default llama.cpp keeps keys and values in half precision
    reader = llama_cpp.Llama(
        str(path), n_ctx=POSITIONS, n_threads=1, type_k=whole, type_v=whole, logits_all=True,
        verbose=False,
    )  # fmt: skip
    entries = {*huggingface.SPECIAL, *huggingface.BYTES}
    wholes = 0  # texts that are equal to the end
    for text in texts[:20]:
        ids = tokenizer.encode(text[:20].strip(), add_special_tokens=False).ids[:10]
        prompt = torch.tensor([ids])
        output = model.generate(
            prompt, attention_mask=torch.ones_like(prompt), do_sample=False, max_new_tokens=40,
            eos_token_id=None, output_logits=True, return_dict_in_generate=True,
        )  # fmt: skip
        written = output.sequences[0].tolist()[len(ids) :]
        reader.reset()
        found = [*itertools.islice(reader.generate(ids, temp=0.0), 40)]
        place = next((n for n in range(40) if found[n] != written[n]), None)
        if place is None:
            wholes += 1
        else:
            first, second = output.logits[place][0].topk(2).values.tolist()
            assert first - second < MARGIN
        with torch.no_grad():
            ours = model(torch.tensor([[*ids, *written]])).logits[0]
        reader.reset()
        reader.eval([*ids, *written])
        theirs = torch.from_numpy(reader.scores[: len(ours)].copy())
        assert (ours - theirs).abs().max() < MARGIN
        plain = [
            number
            for number in written
            if (entry := tokenizer.id_to_token(number)) not in entries
            and len(entry.encode()) <= PIECE
        ]
        assert reader.detokenize(plain).decode() == tokenizer.decode(plain)
    assert wholes > 15
