"""Every form of ZeRO against a loop of plain torch: losses, gradient norms and what is learned."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from kit.training import optimizer
from kit.training.language_model import LanguageModel
from kit.training.verdict import Limits

from .test_engine import MUON, STAGES, VOCABULARY, blocks, engine
from .test_engine import SMALL as OF_ENGINE

if TYPE_CHECKING:
    from kit.config.recipe import Recipe
    from tests.conftest import Workdir

SMALL = (
    "training.clip=0.3",
    "training.z_loss=0.05",
    "model.n_kv_head=2",
    "model.architecture=llama",
)
STEPS = 3
WITHOUT_ZERO = (STAGES[0][0], "training.precision=bf16 training.gradient_dtype=bf16")

Figures = list[tuple[float, ...]]  # of each step: both losses, the gradient norm


def plain(recipe: Recipe) -> tuple[Figures, float]:
    """Train in fp32 with neither DeepSpeed nor a chunk of the loss; the last figure is of a validation."""
    torch.manual_seed(recipe.training.seed)
    model = LanguageModel(recipe, VOCABULARY)
    updater = optimizer.of(model, recipe.training)
    figures = []
    for step in range(STEPS):
        total = torch.zeros(2)
        for micro in range(2):
            loss = model(blocks(2 * step + micro))
            (loss / 2).backward()
            total += torch.stack([loss.detach(), model.z_loss]) / 2
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.training.clip)
        for group in updater.param_groups:
            group["lr"] = 0.01
        updater.step()
        updater.zero_grad()
        figures.append((*total.tolist(), float(norm)))
    return figures, float(model.eval()(blocks(99)).detach())


@pytest.mark.parametrize(("deepspeed", "form"), [*STAGES, *MUON, WITHOUT_ZERO])
def test_a_step_is_that_of_plain_torch(
    workdir: Workdir, alone: None, deepspeed: str, form: str
) -> None:
    (workdir.folder / "zero2.json").write_text(deepspeed, encoding="utf-8")
    made = engine(workdir, *SMALL, form)
    found: Figures = []
    for step in range(STEPS):
        total = torch.zeros(2)
        for micro in range(2):
            total += made.micro_batch(blocks(2 * step + micro), 0, last=micro == 1)
        made.set_learning_rate(0.01)
        losses, norm = made.update(total, Limits())
        found.append((*losses, norm))
    muon = [word for word in form.split() if "muon" in word]
    expected, validated = plain(workdir.recipe(*OF_ENGINE, *SMALL, *muon))
    rounding = 1e-5 if "fp32" in form else 0.02
    assert found == [pytest.approx(one, rel=rounding) for one in expected]
    assert float(made.validate(blocks(99))) == pytest.approx(validated, rel=rounding / 10)
