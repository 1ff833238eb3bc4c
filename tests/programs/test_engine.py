"""DeepSpeed behind its door: an update that is refused, a state that is captured and loaded."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import pytest
import torch
from transformers import GPT2LMHeadModel

from kit.data.tokens import TokenizerInfo
from kit.models import architectures
from kit.models.architectures import padded_rows
from kit.training import engine as door
from kit.training import optimizer, weights
from kit.training import universal as conversion
from kit.training.adamw import GuardedAdamW, own_step_counters
from kit.training.device import Device
from kit.training.engine import Engine
from kit.training.language_model import LanguageModel, release_weights
from kit.training.state_files import write
from kit.training.verdict import Limits

if TYPE_CHECKING:
    from pathlib import Path

    from kit.config.training import Training
    from tests.conftest import Workdir

SMALL = (
    "model.n_embd=8", "model.n_positions=8", "training.global_batch=2", "training.micro_batch=1",
)  # fmt: skip
VOCABULARY = TokenizerInfo(50, begin=1, end=2)
NOTHING = Limits(gradient_norm=-1.0)  # which no step keeps to


_of_recipe = optimizer.of


def fused(model: torch.nn.Module, training: Training, **_: object) -> GuardedAdamW:
    """The optimizer as on a GPU."""
    return _of_recipe(model, training, fused=True)


def engine(workdir: Workdir, *overrides: str, **how: bool) -> Engine:
    recipe = workdir.recipe(*SMALL, *(word for one in overrides for word in one.split()))
    return Engine(recipe, Device("cpu", 0), 2, VOCABULARY, **how)


def engine_to_load(workdir: Workdir, *overrides: str, **how: bool) -> Engine:
    """An engine whose memory is NaN wherever nothing has been written before its checkpoint is loaded."""
    torch.use_deterministic_algorithms(True)  # it fills `torch.empty`
    try:
        return engine(workdir, *overrides, **(how or {"to_load": True}))
    finally:
        torch.use_deterministic_algorithms(False)


def blocks(seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 50, (1, 9), generator=torch.Generator().manual_seed(seed))


def step(one: Engine, seed: int, *, accept: bool = True) -> float:
    total = one.micro_batch(blocks(seed), seed, last=False)
    total += one.micro_batch(blocks(seed + 1), seed, last=True)
    one.set_learning_rate(0.1)
    _, norm = one.update(total, Limits() if accept else NOTHING)
    return norm


def state(one: Engine, at: int, folder: Path) -> dict[str, str]:
    """The hashes of the files of a checkpoint, written to `folder`."""
    folder.mkdir()
    return {name: write(folder / name, s)["xxh3"] for name, s in one.capture(at).items()}


# In bf16, as a GPU trains: ZeRO's files hold a master copy beside the model. Of a few hundred weights it is
# quick on any CPU.
STAGES = (
    ('{"zero_optimization": {"stage": 0}}', "training.precision=fp32"),
    ('{"zero_optimization": {"stage": 1}}', "training.precision=bf16"),
    ('{"zero_optimization": {"stage": 2}}', "training.precision=bf16"),
    ('{"zero_optimization": {"stage": 3}}', "training.precision=bf16"),
)
# Muon shares its step with AdamW; ZeRO-3 has none.
MUON = tuple((file, f"{precision} training.optimizer=muon") for file, precision in STAGES[:3])
# What fp16 has besides: the loss scale.
SCALED = tuple(
    (f'{{"zero_optimization": {{"stage": {stage}}}}}', "training.precision=fp16")
    for stage in (1, 2, 3)
)
SCALED_MUON = (SCALED[1][0], f"{SCALED[1][1]} training.optimizer=muon")


@pytest.mark.parametrize("kernel", [None, "fused"])  # which refuses on a GPU without the host
@pytest.mark.parametrize(("deepspeed", "precision"), STAGES + MUON)
def test_a_refused_update_changes_nothing_also_as_the_first(
    workdir: Workdir, alone: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    deepspeed: str, precision: str, kernel: str | None,
) -> None:  # fmt: skip
    (workdir.folder / "zero2.json").write_text(deepspeed, encoding="utf-8")
    if kernel:
        monkeypatch.setattr(optimizer, "of", fused)
    refused = engine(workdir, precision)
    norm = step(refused, 0, accept=False)
    assert 0 < norm < math.inf
    assert step(refused, 0) == norm
    taken = engine(workdir, precision)
    step(taken, 0)
    assert state(refused, 1, tmp_path / "refused") == state(taken, 1, tmp_path / "taken")
    step(taken, 2)
    assert state(taken, 2, tmp_path / "later") != state(refused, 2, tmp_path / "same")


@pytest.mark.parametrize(("deepspeed", "precision"), STAGES + SCALED)
def test_a_state_that_is_loaded_goes_on_as_if_it_had_never_left(
    workdir: Workdir, alone: None, tmp_path: Path, deepspeed: str, precision: str
) -> None:
    (workdir.folder / "zero2.json").write_text(deepspeed, encoding="utf-8")
    one = engine(workdir, precision)
    step(one, 0)
    step(one, 2)
    state(one, 2, tmp_path / "state")
    step(one, 4)
    expected = state(one, 3, tmp_path / "one")
    other = engine_to_load(workdir, precision)
    matrices = [weight for weight in other._engine.module.parameters() if weight.dim() > 1]
    assert all(weight.isnan().all() for weight in matrices)
    other.load(tmp_path / "state", 2)
    step(other, 4)
    assert state(other, 3, tmp_path / "other") == expected


# What AdamW and the clipping do otherwise than the recipe of `workdir` has it.
OTHERS = (
    "training.weight_decay=0.5", "training.beta1=0.5", "training.beta2=0.6",
    "training.epsilon=1e-3", "training.clip=0.01",
)  # fmt: skip


OF_MUON = ("training.muon_momentum=0.5",)


def after_two_steps(one: Engine, folder: Path) -> dict[str, str]:
    step(one, 0)
    step(one, 2)
    return state(one, 2, folder)


@pytest.mark.parametrize(("deepspeed", "precision"), STAGES + SCALED + MUON[1:2])
def test_the_recipe_holds_after_a_load_and_not_the_settings_of_the_checkpoint(
    workdir: Workdir, alone: None, tmp_path: Path, deepspeed: str, precision: str
) -> None:
    (workdir.folder / "zero2.json").write_text(deepspeed, encoding="utf-8")
    others = (*OTHERS, *OF_MUON) if "muon" in precision else OTHERS
    state(engine(workdir, precision), 0, tmp_path / "state")
    fork = engine_to_load(workdir, precision, *others)
    fork.load(tmp_path / "state", 0)
    fresh = after_two_steps(engine(workdir, precision, *others), tmp_path / "fresh")
    assert after_two_steps(fork, tmp_path / "fork") == fresh


@pytest.mark.parametrize(("deepspeed", "precision"), STAGES[1:])  # all that has another world size
def test_the_recipe_holds_after_a_load_for_another_world_size(
    workdir: Workdir, alone: None, tmp_path: Path, deepspeed: str, precision: str
) -> None:
    (workdir.folder / "zero2.json").write_text(deepspeed, encoding="utf-8")
    after_two_steps(engine(workdir, precision), tmp_path / "state")
    universal(tmp_path / "state", tmp_path / "universal")
    expected = third_step(engine(workdir, precision, *OTHERS), tmp_path / "state")
    other = engine_to_load(workdir, precision, *OTHERS, universal=True)
    moved = third_step(other, tmp_path / "universal")
    assert moved.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(moved[name], value), name


def third_step(one: Engine, loaded: Path) -> dict[str, torch.Tensor]:
    """The weights after a step on from a state of two."""
    one.load(loaded, 2)
    step(one, 4)
    folder = loaded.with_name(f"after-{loaded.name}")
    state(one, 3, folder)
    return weights.read(folder, torch.float32, lambda: None)


def universal(made: Path, folder: Path) -> None:
    """As `universal.convert` does, in this process."""
    converter = door.converter()
    with pytest.MonkeyPatch.context() as patch:
        for name in ("DeepSpeedCheckpoint", "dump_param_fragment"):
            patch.setattr(converter, name, getattr(converter, name))
        patch.setattr("sys.argv", [])
        conversion.main(["--input_folder", str(made), "--output_folder", str(folder)])


def test_an_offloaded_optimizer_needs_no_key_of_deepspeeds(workdir: Workdir, alone: None) -> None:
    """By default DeepSpeed forces one of its own, and refuses the kit's when the ranks start."""
    offload = '{"zero_optimization": {"stage": 2, "offload_optimizer": {"device": "cpu"}}}'
    (workdir.folder / "zero2.json").write_text(offload, encoding="utf-8")
    step(engine(workdir), 0)


@pytest.mark.parametrize("stage", [2, 3])
def test_z_loss_is_a_mean_over_micro_batches_as_the_loss_is(
    workdir: Workdir, alone: None, stage: int
) -> None:
    deepspeed = f'training.deepspeed={{"zero_optimization":{{"stage":{stage}}}}}'
    one = engine(workdir, "training.z_loss=0.1", deepspeed)
    parts = [one.micro_batch(blocks(seed), seed, last=seed == 1) for seed in range(2)]
    losses, _ = one.update(parts[0] + parts[1], Limits())
    assert losses == pytest.approx(((parts[0] + parts[1]) / 2).tolist())
    assert losses[1] == pytest.approx(0.1 * math.log(50) ** 2, rel=0.05)  # nearly uniform
    assert one.validate(blocks()).dim() == 0
    assert one._engine.module.z_loss is None  # of a validation


def test_a_captured_state_leaves_out_an_unfinished_step(
    workdir: Workdir, alone: None, tmp_path: Path
) -> None:
    one = engine(workdir)
    step(one, 0)
    expected = state(one, 1, tmp_path / "before")
    one.micro_batch(blocks(5), 5, last=False)
    assert state(one, 1, tmp_path / "after") == expected


def test_a_gradient_that_is_not_finite_is_never_applied(
    workdir: Workdir, alone: None, tmp_path: Path
) -> None:
    one = engine(workdir)
    step(one, 0)
    with torch.no_grad():
        one._engine.module.decoder.ln_f.weight.fill_(math.inf)
    before = moments_of(one)
    total = one.micro_batch(blocks(2), 2, last=False)
    total += one.micro_batch(blocks(3), 3, last=True)
    (loss,), norm = one.update(total, Limits())
    assert not math.isfinite(norm)
    assert not math.isfinite(loss)
    assert moments_of(one) == before


# ZeRO-3 shows no whole weights.
@pytest.mark.parametrize(("deepspeed", "precision"), [*SCALED[:2], SCALED_MUON])
def test_a_gradient_too_large_for_its_loss_scale_halves_the_scale_and_updates_nothing(
    workdir: Workdir, alone: None, tmp_path: Path, deepspeed: str, precision: str
) -> None:
    (workdir.folder / "zero2.json").write_text(deepspeed, encoding="utf-8")
    one = engine(workdir, precision)
    assert one.loss_scale == 2**16
    assert math.isfinite(step(one, 0))
    assert not one.overflowed
    one._scaler.cur_scale = 2.0**40  # no gradient of fp16 fits
    before = weights_of(one)
    state(one, 1, tmp_path / "before")
    scales = []
    for seed in (2, 4, 6):
        assert not math.isfinite(step(one, seed))
        assert one.overflowed
        scales.append(one.loss_scale)
    assert scales == [2**40, 2**39, 2**38]  # the first overflow is forgiven: hysteresis 2
    assert weights_of(one) == before
    after = state(one, 4, tmp_path / "after")

    other = engine(workdir, precision)
    other.load(tmp_path / "before", 1)
    for seed in (2, 4, 6):
        step(other, seed)
    assert other.loss_scale == 2**38
    assert state(other, 4, tmp_path / "again") == after


@pytest.mark.parametrize("stage", [2, 1, 3])
def test_after_an_overflow_an_offloaded_optimizer_starts_from_nothing(
    workdir: Workdir, alone: None, stage: int
) -> None:
    offloaded = {"offload_optimizer": {"device": "cpu", "pin_memory": True}}
    file = {
        "zero_optimization": {"stage": stage, **offloaded},
        "zero_force_ds_cpu_optimizer": False,
    }
    (workdir.folder / "zero2.json").write_text(json.dumps(file), encoding="utf-8")
    overflowed, other = (engine(workdir, "training.precision=fp16") for _ in range(2))
    overflowed._scaler.cur_scale = 2.0**40
    assert not math.isfinite(step(overflowed, 0))
    overflowed._scaler.cur_scale = 2.0**16
    assert step(overflowed, 2) == step(other, 2)
    assert step(overflowed, 4) == step(other, 4)


def test_at_the_smallest_loss_scale_an_infinite_gradient_is_a_bad_step(
    workdir: Workdir, alone: None
) -> None:
    one = engine(workdir, "training.precision=fp16")
    one._scaler.cur_scale, one._scaler.cur_hysteresis = 1.0, 1
    with torch.no_grad():
        one._engine.module.decoder.ln_f.weight.fill_(math.inf)
    assert not math.isfinite(step(one, 0))
    assert not one.overflowed
    assert one.loss_scale == 1


def moments_of(one: Engine) -> list[list[float]]:
    """The moments and steps of AdamW."""
    return [
        value.flatten().tolist()
        for state in one._optimizer.state.values()
        for value in state.values()
    ]


def weights_of(one: Engine) -> list[list[float]]:
    return [value.detach().flatten().tolist() for value in one._engine.module.parameters()]


def test_rows_that_fill_up_the_vocabulary_are_never_trained_and_cut_off(workdir: Workdir) -> None:
    recipe = workdir.recipe(*SMALL, "model.pad_vocab_to=64", "training.weight_decay=0")
    assert padded_rows(50, 64) == 64
    assert padded_rows(64, 64) == 64
    assert padded_rows(50, None) == 50
    torch.manual_seed(0)
    model = LanguageModel(recipe, VOCABULARY)
    model(blocks()).backward()
    rows: Any = model.decoder.wte.weight
    assert rows.shape == (64, 8)
    assert rows.grad[50:].abs().sum() == 0
    assert rows.grad[:50].abs().sum() > 0
    cut = release_weights(model.state_dict(), recipe.model, 50)
    assert cut["transformer.wte.weight"].shape == cut["lm_head.weight"].shape == (50, 8)
    torch.manual_seed(0)
    plain = LanguageModel(workdir.recipe(*SMALL), VOCABULARY)
    plain.causal.load_state_dict(cut)
    assert torch.allclose(model(blocks()), plain(blocks()))


def test_a_model_that_is_to_be_compiled_is(workdir: Workdir, alone: None) -> None:
    for wanted in ("true", "false"):  # it is compiled at its first step, which needs a compiler
        made = engine(workdir, f"training.compile={wanted}")._engine.module.decoder
        assert (made._compiled_call_impl is not None) == (wanted == "true")


def test_the_graph_of_a_step_does_not_depend_on_a_validation_before_it(
    workdir: Workdir, alone: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[list[Any]] = []  # in each graph, those that are left open

    def look(graph: torch.fx.GraphModule, inputs: list[Any]) -> Any:
        sizes.append([size for size in inputs if not isinstance(size, torch.Tensor)])
        return graph.forward

    plain = torch.nn.Module.compile
    monkeypatch.setattr(
        torch.nn.Module, "compile", lambda module, **how: plain(module, backend=look, **how)
    )
    two = ("training.compile=true", "training.global_batch=4", "training.micro_batch=2")
    made = engine(workdir, *two)
    made.validate(blocks())
    made.micro_batch(torch.cat([blocks(1), blocks(2)]), 0, last=False)
    assert sizes == [[], []]


def test_attention_is_causal_without_a_mask_for_the_compiler_too(workdir: Workdir) -> None:
    recipe = workdir.recipe(*SMALL)
    model = LanguageModel(recipe, VOCABULARY)
    calls: list[tuple[Any, bool]] = []

    def look(graph: torch.fx.GraphModule, _: list[torch.Tensor]) -> Any:
        nodes = [n for n in graph.graph.nodes if "scaled_dot_product" in str(n.target)]
        calls.extend((node.kwargs["attn_mask"], node.kwargs["is_causal"]) for node in nodes)
        return graph.forward

    compiled = torch.compile(model.decoder, backend=look)
    with torch.no_grad():
        found = compiled(blocks()[:, :8]).last_hidden_state
    assert calls == [(None, True)] * recipe.model.n_layer
    stock = GPT2LMHeadModel(architectures.of(recipe.model).configuration(50, begin=1, end=2)).eval()
    stock.load_state_dict(model.causal.state_dict())
    assert stock.config._attn_implementation == "sdpa"  # what a release says
    assert torch.allclose(found, stock.transformer(blocks()[:, :8]).last_hidden_state, atol=1e-6)


def test_step_counters_of_a_universal_checkpoint_are_on_the_devices_of_their_parameters() -> None:
    parameters = [torch.nn.Parameter(torch.zeros(2, device=where)) for where in ("meta", "cpu")]
    optimizer = torch.optim.AdamW(parameters)
    shared = torch.tensor(7.0)
    for parameter in parameters:
        optimizer.state[parameter]["step"] = shared
    own_step_counters(optimizer)
    meta, cpu = (optimizer.state[parameter]["step"] for parameter in parameters)
    assert (meta.device.type, cpu.device.type) == ("meta", "cpu")
    assert cpu is not shared
    assert cpu == shared


@pytest.mark.parametrize(("wanted", "taken"), [("", 1352), (', "reduce_bucket_size": 300', 300)])
@pytest.mark.parametrize("stage", [1, 2, 3])
def test_a_bucket_of_gradients_is_no_larger_than_the_model(
    workdir: Workdir, alone: None, stage: int, wanted: str, taken: int
) -> None:
    file = f'{{"zero_optimization": {{"stage": {stage}{wanted}}}}}'
    (workdir.folder / "zero2.json").write_text(file, encoding="utf-8")
    one = engine(workdir)
    assert one.parameters() == 1352
    assert one._engine.optimizer.reduce_bucket_size == taken


def test_nothing_of_deepspeed_waits_for_the_gpu_to_time_a_micro_batch(
    workdir: Workdir, alone: None
) -> None:
    assert not engine(workdir)._engine.tput_timer.config.enabled
