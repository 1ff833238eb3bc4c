"""The model as a GGUF file, which llama.cpp and the programs built on it load.

    save(model, tokenizer, folder / file_name("demo", "q8_0"), "q8_0", name="demo", license_name="other")

Written with the package `gguf`, of the extra `ekiden[gguf]`. Names and layout of the tensors are those of
llama.cpp: see kit/release/gguf_architectures.py. As in its converter, vectors and learned positions stay in
float32.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kit.errors import StageError
from kit.release import gguf_architectures, gguf_vocabulary
from kit.store.files import settle

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import gguf
    import numpy as np
    from tokenizers import Tokenizer
    from torch import Tensor

    from kit.config.recipe import GgufType
    from kit.release.gguf_architectures import Kind
    from kit.release.gguf_vocabulary import Vocabulary

_BLOCK = 32  # values of a row that share a scale in Q8_0


def file_name(name: str, kind: GgufType) -> str:
    """The name of a file as llama.cpp's users know it: demo-Q8_0.gguf."""
    return f"{name}-{kind.upper()}.gguf"


def save(
    model: Any, tokenizer: Tokenizer, path: Path, kind: GgufType, *, name: str, license_name: str
) -> None:
    """Write a causal model of transformers and its tokenizer, a tensor at a time.

    Rows that are no multiple of 32 stay in f16 with q8_0. Raises StageError without the package `gguf`, or
    if llama.cpp has no tokenizer that gives equal ids.
    """
    writer = _writer(path, gguf_architectures.of(model.config))
    _add_facts(writer, model.config, kind)
    writer.add_name(name)
    writer.add_license(license_name)
    writer.add_bos_token_id(model.config.bos_token_id)
    writer.add_pad_token_id(model.config.pad_token_id)
    add_vocabulary(writer, gguf_vocabulary.of(tokenizer, model.config.vocab_size))
    for tensor_name, tensor in _tensors(model):
        _announce(writer, tensor_name, tensor, kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for tensor_name, tensor in _tensors(model):
        writer.write_tensor_data(_encoded(tensor, _type_of(tensor_name, tensor, kind)))
    writer.close()
    settle(path)


def add_vocabulary(writer: gguf.GGUFWriter, vocabulary: Vocabulary) -> None:
    """Add the tokenizer: a text gets no further token, as with transformers."""
    writer.add_tokenizer_model(vocabulary.model)
    writer.add_tokenizer_pre(vocabulary.pre)
    writer.add_token_list(vocabulary.tokens)
    writer.add_token_scores(vocabulary.scores)
    writer.add_token_types(vocabulary.types)
    writer.add_token_merges(vocabulary.merges)
    writer.add_unk_token_id(vocabulary.unknown)
    writer.add_eos_token_id(vocabulary.end)
    writer.add_add_bos_token(False)
    writer.add_add_eos_token(False)
    writer.add_add_space_prefix(False)


def _writer(path: Path, kind: Kind) -> gguf.GGUFWriter:
    try:
        import gguf
    except ImportError:
        raise StageError(
            "release.gguf: the package gguf is not installed; pip install 'ekiden[gguf]'"
        ) from None
    return gguf.GGUFWriter(path, kind.name)


def _add_facts(writer: gguf.GGUFWriter, config: Any, kind: GgufType) -> None:
    """The keys that llama.cpp demands, and the type of most tensors."""
    import gguf

    whole = kind == "f32"
    writer.add_type(gguf.GGUFType.MODEL)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_head_count(config.num_attention_heads)
    gguf_architectures.of(config).add_keys(writer, config)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    files = gguf.LlamaFileType
    writer.add_file_type(files.ALL_F32 if whole else files[f"MOSTLY_{kind.upper()}"])


def _tensors(model: Any) -> Iterator[tuple[str, Tensor]]:
    """The weights under llama.cpp's names, as it multiplies by them: rows are outputs."""
    import gguf

    config, kind = model.config, gguf_architectures.of(model.config)
    architecture = gguf.MODEL_ARCH[kind.name.upper()]
    names = gguf.get_tensor_name_map(architecture, config.num_hidden_layers)
    for name, tensor in model.named_parameters():  # without lm_head if it is the embedding
        own = names.get_name(name, try_suffixes=(".weight", ".bias"))
        assert own is not None, name
        yield own, kind.stored(name, tensor.detach(), config)


def _type_of(name: str, tensor: Tensor, kind: GgufType) -> gguf.GGMLQuantizationType:
    import gguf

    types = gguf.GGMLQuantizationType
    if tensor.dim() == 1 or name.startswith("position_embd"):
        return types.F32
    if kind == "q8_0" and tensor.shape[-1] % _BLOCK:
        return types.F16
    return types[kind.upper()]


def _announce(writer: gguf.GGUFWriter, name: str, tensor: Tensor, kind: GgufType) -> None:
    """Describe a tensor: descriptions come before all values."""
    import gguf
    import numpy as np

    own = _type_of(name, tensor, kind)
    block, size = gguf.GGML_QUANT_SIZES[own]
    number_of_bytes = tensor.numel() // block * size
    writer.add_tensor_info(name, tensor.shape, np.dtype(np.float32), number_of_bytes, raw_dtype=own)


def _encoded(tensor: Tensor, kind: gguf.GGMLQuantizationType) -> np.ndarray:
    import gguf
    import numpy as np

    return gguf.quantize(np.ascontiguousarray(tensor.float().numpy()), kind)
