"""Muon under ZeRO 0, 1 and 2: of whole matrices, whatever a rank has of them, in one state with AdamW."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
import torch

from kit.errors import ConfigError
from kit.models import architectures
from kit.models.architecture import Fused
from kit.plan import memory
from kit.training import optimizer, orthogonal
from kit.training.host_copy import tensors
from kit.training.language_model import LanguageModel
from kit.training.muon import GuardedMuon
from kit.training.orthogonal import Matrix
from tests import warm
from tests.conftest import new_workdir

from .muon_ranks import MATRICES, PART, SETTINGS, VOCABULARY, Case, flat, gradients
from .test_engine import SMALL as OF_ENGINE
from .test_engine import engine, step

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Workdir

SMALL = (
    "model.n_embd=8",
    "model.n_positions=8",
    "training.micro_batch=1",
    "training.optimizer=muon",
)


def test_a_rank_with_a_piece_of_a_matrix_updates_it_as_if_it_had_all(tmp_path: Path) -> None:
    warm.training("tests.programs.muon_ranks", str(tmp_path), "5", str(tmp_path / "meeting"))
    whole = [torch.nn.Parameter(tensor) for tensor in gradients(0)]
    group = {"params": whole, "momentum": 0.9, "weight_decay": 0.1}
    optimizer = GuardedMuon([group], MATRICES, **SETTINGS)
    for number in (1, 3):  # the second is refused
        for weight, gradient in zip(whole, gradients(number), strict=True):
            weight.grad = gradient
        optimizer.step()
    means = [optimizer.state[weight]["exp_avg"] for weight in whole]
    for rank in range(5):
        part, mean, steps = torch.load(tmp_path / f"cut.{rank}.pt")
        assert steps == 2
        assert torch.allclose(part, flat([w.detach() for w in whole], rank), rtol=1e-6, atol=1e-7)
        assert torch.allclose(mean, flat(means, rank), rtol=1e-6, atol=1e-7)
    assert sum(matrix.size for matrix in MATRICES) < 4 * PART


# Stage, precision, architecture.
FORMS = {
    "0-fp32": (0, "fp32", "gpt2"), "1-fp32": (1, "fp32", "gpt2"), "2-fp32": (2, "fp32", "gpt2"),
    "2-fp32-llama": (2, "fp32", "llama"), "1-bf16": (1, "bf16", "gpt2"), "2-bf16": (2, "bf16", "gpt2"),
}  # fmt: skip


class Ranks:
    """Runs of `muon_ranks`, with what they leave."""

    def __init__(self, folder: Path, streams: list[bytes]) -> None:
        self._folder, self._recipe = folder, new_workdir(folder, streams).recipe_file

    def run(self, ranks: int, cases: dict[str, Case]) -> None:
        """All cases in the same processes."""
        meeting = self._folder / f"meeting-of-{ranks}"
        program = ("tests.programs.muon_ranks", str(self._folder), str(ranks), str(meeting))
        warm.training(*program, str(self._recipe), json.dumps(cases))

    def case(self, form: str, load: str | None = None, *, universal: bool = False) -> Case:
        """A form of ZeRO, from step 0 or from the state that another case has saved."""
        stage, precision, architecture = FORMS[form]
        file = self._folder / f"{form}.json"
        file.write_text(json.dumps({"zero_optimization": {"stage": stage, "reduce_scatter": True}}))
        overrides = [*SMALL, "training.global_batch=6", f"training.precision={precision}"]
        overrides += [f"training.deepspeed={file}", f"model.architecture={architecture}"]
        saved = str(self._folder / f"{form}-saved" / "state")
        return {
            "overrides": overrides,
            "load": load,
            "universal": universal,
            "save": None if load else saved,
        }

    def weights(self, name: str) -> dict[str, torch.Tensor]:
        """Those of a case at its end."""
        found: dict[str, torch.Tensor] = torch.load(self._folder / f"{name}.pt")
        return found

    def held(self, name: str, rank: int) -> list[dict[str, torch.Tensor]]:
        """What the optimizer of a rank holds at its end."""
        found: list[dict[str, torch.Tensor]] = torch.load(self._folder / f"{name}.{rank}.pt")
        return found

    def joined(self, name: str, ranks: int) -> list[dict[str, torch.Tensor]]:
        """The same of all ranks under ZeRO, by group; a counter is of the first rank."""
        parts = [self.held(name, rank) for rank in range(ranks)]
        return [
            {k: torch.cat([one[k] for one in of_group]) if v.dim() else v for k, v in group.items()}
            for group, *others in zip(*parts, strict=True)
            for of_group in [(group, *others)]
        ]

    def files(self, name: str) -> dict[str, bytes]:
        """The files of the state at its end."""
        return {path.name: path.read_bytes() for path in (self._folder / name).iterdir()}

    def saved(self, form: str) -> str:
        """The state of two steps."""
        return str(self._folder / f"{form}-saved" / "state")


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory, streams: list[bytes]) -> Ranks:
    """Two ranks that have trained under each form of ZeRO, and again from the state of two steps."""
    made = Ranks(tmp_path_factory.mktemp("muon"), streams)
    straight = {form: made.case(form) for form in FORMS}
    made.run(2, straight | {f"{form}-again": made.case(form, made.saved(form)) for form in FORMS})
    return made


def test_every_stage_of_zero_updates_by_whole_matrices(ranks: Ranks) -> None:
    expected = ranks.weights("0-fp32")
    for form in ("1-fp32", "2-fp32"):
        _assert_close(ranks.weights(form), expected)


@pytest.mark.parametrize("form", FORMS)
def test_a_resumed_run_is_bit_equal(ranks: Ranks, form: str) -> None:
    assert ranks.files(f"{form}-again") == ranks.files(form)
    for rank in range(2):
        held = ranks.held(form, rank)
        assert [*held[0]] == ["weight", "step", "exp_avg"]
        assert [*held[-1]] == ["weight", "step", "exp_avg", "exp_avg_sq"]
        assert {value.dtype for one in held for value in one.values()} == {torch.float32}


SHARDED = [form for form in FORMS if not form.startswith("0")]


@pytest.fixture(scope="module", params=[pytest.param(1, marks=pytest.mark.long), 3])
def of_others(
    ranks: Ranks, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> int:
    """Another number of ranks, which has gone on from the states of two."""
    cases = {}
    for form in SHARDED:
        universal = tmp_path_factory.mktemp("universal") / "state"
        folders = ("--input_folder", ranks.saved(form), "--output_folder", str(universal))
        warm.training("kit.training.universal", *folders)
        cases[f"{form}-on-{request.param}"] = ranks.case(form, str(universal), universal=True)
    ranks.run(request.param, cases)
    return int(request.param)


@pytest.mark.parametrize("form", SHARDED)
def test_another_number_of_ranks_goes_on_from_the_same_state(
    ranks: Ranks, of_others: int, form: str
) -> None:
    name = f"{form}-on-{of_others}"
    loaded = ranks.joined(f"{name}-loaded", of_others)
    for found, saved in zip(loaded, ranks.joined(f"{form}-saved", 2), strict=True):
        assert found.keys() == saved.keys()
        for key, value in found.items():
            size = min(value.numel(), saved[key].numel())  # the rest fills up the last part
            assert torch.equal(value.flatten()[:size], saved[key].flatten()[:size]), key
    if "fp32" in form:  # in bf16 the gradients of ranks are rounded before they are added
        _assert_close(ranks.weights(name), ranks.weights(form))


def _assert_close(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    for name, value in found.items():
        if (
            value.dim() > 1
        ):  # the gradient of a key's bias is 0 but for rounding, which AdamW scales
            assert torch.allclose(value, expected[name], rtol=1e-4, atol=1e-6), name


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_only_matrices_of_layers_are_orthogonalised(workdir: Workdir, architecture: str) -> None:
    recipe = workdir.recipe(*SMALL, "training.global_batch=6", f"model.architecture={architecture}")
    model = LanguageModel(recipe, VOCABULARY)
    of_layers, decayed, others = optimizer.of(model, recipe.training).param_groups
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    in_layer = [names[id(p)].split(".0.")[1] for p in of_layers["params"]]
    if architecture == "gpt2":
        assert in_layer == [
            "attn.c_attn.weight", "attn.c_proj.weight", "mlp.c_fc.weight", "mlp.c_proj.weight",
        ]  # fmt: skip
        assert [names[id(p)] for p in decayed["params"]] == [
            "gpt2.transformer.wte.weight", "gpt2.transformer.wpe.weight",
        ]  # fmt: skip
    else:
        parts = [name.removesuffix("_proj.weight").split(".")[-1] for name in in_layer]
        assert parts == ["q", "k", "v", "o", "gate", "up", "down"]
        assert [names[id(p)].split(".")[-2] for p in decayed["params"]] == [
            "embed_tokens",
            "lm_head",
        ]
    assert {p.dim() for p in others["params"]} == {1}
    assert (of_layers["momentum"], others["weight_decay"]) == (0.95, 0)
    number = sum(p.numel() for p in of_layers["params"])
    assert architectures.of(recipe.model).matrix_parameters() == number


def test_the_update_of_a_matrix_is_that_of_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(orthogonal, "working_dtype", lambda _: torch.bfloat16)
    shapes = [(8, 24), (40, 8), (6, 6)]
    ours = [torch.nn.Parameter(torch.randn(shape)) for shape in shapes]
    theirs = [torch.nn.Parameter(weight.detach().clone()) for weight in ours]
    group = {"params": ours, "weight_decay": 0.1, "momentum": 0.95}
    own = GuardedMuon([group], [Matrix(*shape) for shape in shapes], **SETTINGS | {"lr": 0.01})
    peer = torch.optim.Muon(theirs, lr=0.01, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    for _ in range(3):
        for weight, other in zip(ours, theirs, strict=True):
            weight.grad = torch.randn_like(weight)
            other.grad = weight.grad.clone()
        own.step()
        peer.step()
    assert all(map(torch.equal, ours, theirs))


def test_queries_keys_and_values_are_orthogonalised_each_for_itself() -> None:
    average = torch.randn(8, 24, generator=torch.Generator().manual_seed(0))
    average[:, :8] *= 100  # as one matrix, the queries would leave nothing to the others
    found = orthogonal.update(average, Matrix(8, 24, Fused(1, 3)))
    for part, own in zip(found.split(8, 1), average.split(8, 1), strict=True):
        assert torch.equal(part, orthogonal.orthogonalised(own))
        values = torch.linalg.svdvals(part)
        assert 0.5 < values.median() < values.max() < 1.3
    assert Matrix(8, 24, Fused(1, 3)).scale == 0.2 * 8**0.5
    assert Matrix(8, 24).scale == 0.2 * 24**0.5


@pytest.mark.parametrize(
    ("zero", "why"),
    [
        ({"stage": 3}, "ZeRO-3 cuts every matrix"),
        ({"stage": 2, "offload_optimizer": {"device": "cpu"}}, "offloaded"),
        ({"stage": 2, "cpu_offload": True}, "offloaded"),
        ({"stage": 1, "round_robin_gradients": True}, "round_robin_gradients"),
        ({"stage": 1, "parameter_alignment": True}, "parameter_alignment"),
    ],
)
def test_what_would_keep_a_rank_from_whole_matrices_is_refused(
    workdir: Workdir, zero: dict[str, object], why: str
) -> None:
    (workdir.folder / "zero2.json").write_text(json.dumps({"zero_optimization": zero}))
    with pytest.raises(ConfigError, match=rf"training\.optimizer=muon: .*{why}"):
        workdir.recipe("training.optimizer=muon")


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_the_plan_knows_the_size_of_the_state(workdir: Workdir, alone: None, name: str) -> None:
    one = engine(workdir, f"training.optimizer={name}", "training.precision=bf16")
    step(one, 0)
    size = sum(part.nbytes for state in one.capture(1).values() for part in tensors(state))
    counters = 4 * len(one._optimizer.param_groups)
    trained = architectures.of(workdir.recipe(*OF_ENGINE).model).matrix_parameters()
    matrices = trained if name == "muon" else 0
    assert size - counters == memory.checkpoint_bytes(one.parameters(), 2, matrices)
    assert size - counters == one.state_bytes()
