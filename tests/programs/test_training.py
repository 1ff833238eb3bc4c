"""The model and its loss, weight decay, and the configuration of DeepSpeed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pytest

from kit.data import tokens

if TYPE_CHECKING:
    from tests.conftest import Workdir

SIZE = ("model.n_positions=8", "model.n_embd=8")
SMALL = (*SIZE, "model.dropout=0")
VOCABULARY = tokens.TokenizerInfo(50, begin=1, end=2)


def model_and_blocks(workdir: Workdir, *overrides: str) -> tuple[Any, Any]:
    import torch

    from kit.training.language_model import LanguageModel

    torch.manual_seed(0)
    model = LanguageModel(workdir.recipe(*SIZE, *overrides), VOCABULARY)
    return model, torch.randint(0, 50, (3, 9), generator=torch.Generator().manual_seed(1))


def loss_and_gradients(workdir: Workdir, *overrides: str) -> tuple[float, list[np.ndarray]]:
    model, blocks = model_and_blocks(workdir, *overrides)
    loss = model(blocks)
    loss.backward()
    return float(loss.detach()), [p.grad.numpy() for p in model.parameters() if p.grad is not None]


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])  # tied, and untied
@pytest.mark.parametrize("chunk", ["5", "8", "1000", "null"])
def test_a_loss_in_chunks_is_the_loss_and_so_are_its_gradients(
    workdir: Workdir, chunk: str, architecture: str
) -> None:
    import torch.nn.functional as F  # noqa: N812

    kind = ["model.dropout=0"] if architecture == "gpt2" else ["model.architecture=llama"]
    model, blocks = model_and_blocks(workdir, *kind)
    logits = model.causal(blocks[:, :-1]).logits  # of transformers' own forward pass
    whole = F.cross_entropy(logits.flatten(0, 1), blocks[:, 1:].flatten())
    whole.backward()
    chunked, found = loss_and_gradients(workdir, f"training.loss_chunk={chunk}", *kind)
    assert chunked == pytest.approx(float(whole.detach()), rel=1e-6)
    gradients = [p.grad.numpy() for p in model.parameters()]
    assert len(found) == len(gradients)
    for one, other in zip(found, gradients, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


def test_z_loss_changes_gradients_and_not_the_loss(workdir: Workdir) -> None:
    import torch

    plain, gradients = loss_and_gradients(workdir, "model.dropout=0")
    z = ("model.dropout=0", "training.z_loss=0.1")
    loss, found = loss_and_gradients(workdir, *z)
    assert loss == plain
    changed = [not np.allclose(one, two) for one, two in zip(found, gradients, strict=True)]
    assert sum(changed) > len(changed) / 2
    model, blocks = model_and_blocks(workdir, *z)
    model(blocks)
    assert float(model.z_loss) == pytest.approx(0.1 * np.log(50) ** 2, rel=0.05)  # nearly uniform
    model.eval()  # a validation
    model(blocks).backward()
    assert model.z_loss is None
    for one, parameter in zip(gradients, model.parameters(), strict=True):
        assert torch.equal(torch.from_numpy(one), parameter.grad)


def test_activation_checkpointing_does_not_change_the_loss(workdir: Workdir) -> None:
    whole, gradients = loss_and_gradients(workdir, "model.dropout=0")
    again, found = loss_and_gradients(
        workdir, "model.dropout=0", "model.activation_checkpointing=true"
    )
    assert again == pytest.approx(whole, rel=1e-5)
    for one, other in zip(found, gradients, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


def test_a_block_predicts_its_tokens_and_with_lookahead_the_one_after_it(workdir: Workdir) -> None:
    import torch
    import torch.nn.functional as F  # noqa: N812

    from kit.training.language_model import LanguageModel

    blocks = torch.randint(0, 50, (3, 9), generator=torch.Generator().manual_seed(1))
    for labels, counted in (("lookahead", 8), ("inside", 7)):
        torch.manual_seed(0)
        model = LanguageModel(workdir.recipe(*SMALL, f"training.labels={labels}"), VOCABULARY)
        logits = model.causal(blocks[:, :8]).logits[:, :counted]
        expected = F.cross_entropy(logits.flatten(0, 1), blocks[:, 1 : counted + 1].flatten())
        assert float(model(blocks)) == pytest.approx(float(expected), rel=1e-5)
        changed = blocks.clone()
        changed[:, 8] = (changed[:, 8] + 1) % 50
        assert (float(model(changed)) == float(model(blocks))) is (labels == "inside")


def test_weight_decay_is_for_matrices(workdir: Workdir) -> None:
    from kit.training.language_model import LanguageModel, parameter_groups

    recipe = workdir.recipe(*SMALL)
    model = LanguageModel(recipe, VOCABULARY)
    decayed, others = parameter_groups(model.parameters(), recipe.training)
    assert (decayed["weight_decay"], others["weight_decay"]) == (0.1, 0.0)
    assert all(parameter.dim() > 1 for parameter in decayed["params"])
    assert all(parameter.dim() == 1 for parameter in others["params"])
    count = sum(len(group["params"]) for group in (decayed, others))
    assert count == len(list(model.parameters()))
    every = workdir.recipe(*SMALL, "training.decay_all=true").training
    (one,) = parameter_groups(model.parameters(), every)
    assert len(one["params"]) == count


def test_every_key_of_a_deepspeed_file_is_known() -> None:
    """Against those for which DeepSpeed looks."""
    from kit.config import deepspeed_file
    from kit.training.engine import import_deepspeed

    import_deepspeed("cpu")
    from deepspeed.runtime.config import DeepSpeedConfig

    class Asked(dict[str, int]):
        """A dictionary that remembers the keys it was asked for."""

        keys_asked: ClassVar[set[str]] = set()

        def get(self, key: str, default: Any = None) -> Any:
            self.keys_asked.add(key)
            return super().get(key, default)

        def __contains__(self, key: object) -> bool:
            self.keys_asked.add(str(key))
            return super().__contains__(key)

        def __getitem__(self, key: str) -> int:
            self.keys_asked.add(key)
            return super().__getitem__(key)

        def keys(self) -> Any:
            return self

    DeepSpeedConfig(Asked(train_micro_batch_size_per_gpu=1))
    Asked.keys_asked.add("sequence_parallel_size")  # only if the ranks know each other
    assert Asked.keys_asked == deepspeed_file.KEYS.keys() | deepspeed_file.REFUSED.keys()


def test_every_option_of_zero_is_known_with_its_type() -> None:
    """Against DeepSpeed's own table: its defaults fit, and what it refuses is refused."""
    from kit.config import deepspeed_file, zero_options
    from kit.training.engine import import_deepspeed

    import_deepspeed("cpu")
    from deepspeed.runtime.zero import config, offload_config

    sections = {
        "offload_optimizer": offload_config.DeepSpeedZeroOffloadOptimizerConfig,
        "offload_param": offload_config.DeepSpeedZeroOffloadParamConfig,
    }
    tables = {"": config.DeepSpeedZeroConfig, **sections}
    for name, model in tables.items():
        ours = zero_options.SECTIONS[name] if name else zero_options.OPTIONS
        refused = set() if name else set(zero_options.REFUSED)
        fields = dict(model.model_fields)
        aliases = {field.alias: field for field in fields.values() if field.alias}
        assert set(ours) | refused == set(fields) | set(aliases)
        for key, field in (fields | aliases).items():
            default = field.default
            if key in ours and isinstance(default, bool | int | float):
                wrapped = {name: {key: default}} if name else {key: default}
                deepspeed_file.check({"zero_optimization": wrapped}, "here")


def test_the_deepspeed_configuration_is_the_file_and_the_recipe(workdir: Workdir) -> None:
    from kit.training.engine import configuration

    found = configuration(workdir.recipe("training.clip=0.5", "training.precision=fp32"), 3)
    assert found["zero_optimization"] == {"stage": 2}
    assert found["train_micro_batch_size_per_gpu"] == 2
    assert found["gradient_accumulation_steps"] == 3
    assert found["gradient_clipping"] == 0.5
    assert found["bf16"]["enabled"] is False


def test_a_models_configuration_has_the_ids_of_the_vocabulary(workdir: Workdir) -> None:
    from kit.training.language_model import LanguageModel

    vocabulary = tokens.TokenizerInfo(50, begin=2, end=1)
    model = LanguageModel(workdir.recipe(*SMALL, "model.pad_vocab_to=32"), vocabulary)
    config = model.causal.config
    assert (config.vocab_size, config.bos_token_id, config.eos_token_id) == (64, 2, 1)
