"""The samples of a validation: what is drawn, and that training does not notice."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from kit.config.recipe import Release
from kit.training.language_model import LanguageModel
from kit.training.samples import _draws, continued, tokenized
from tests import vocabulary

from .test_engine import SMALL, STAGES, VOCABULARY, engine, state, step

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from tests.conftest import Workdir

PROMPTS = [[3, 4, 5], [6]]


def written(one: LanguageModel, prompts: list[list[int]], number: int) -> list[list[int]]:
    """The likeliest continuations."""
    with torch.no_grad():
        return continued(prompts, number, lambda ids, last: one.next_logits(ids, last).argmax(-1))


def test_prompts_of_several_lengths_are_continued_together_as_each_alone(workdir: Workdir) -> None:
    torch.manual_seed(0)
    one = LanguageModel(workdir.recipe(*SMALL, "model.dropout=0.0"), VOCABULARY).eval()
    together = written(one, PROMPTS, 5)
    assert together == [written(one, [prompt], 5)[0] for prompt in PROMPTS]
    assert [ids[: len(prompt)] for ids, prompt in zip(together, PROMPTS, strict=True)] == PROMPTS
    # The whole text, read at once, has the same likeliest tokens.
    hidden = one.gpt2(torch.tensor(together[:1])).logits
    assert hidden.argmax(-1)[0, 2:-1].tolist() == together[0][3:]


def test_every_prompt_takes_as_many_calls_whatever_is_drawn() -> None:
    calls = []

    def following(ids: Tensor, last: Tensor) -> Tensor:
        calls.append((tuple(ids.shape), last.tolist()))
        return torch.full((2,), VOCABULARY.end)

    assert continued(PROMPTS, 2, following) == [[3, 4, 5, 2, 2], [6, 2, 2]]
    assert calls == [((2, 3), [2, 0]), ((2, 4), [3, 1])]


def test_a_token_depends_on_the_step_and_the_prompt_and_on_no_other_randomness() -> None:
    logits = torch.zeros(2, 1000)
    release = Release(temperature=1.0, top_p=1.0)

    def drawn(at: int) -> list[int]:
        return _draws(release, at, 2)(logits).tolist()

    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = drawn(7)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert drawn(7) == first
    assert first[0] != first[1]
    assert drawn(8) != first


def test_only_the_likeliest_tokens_are_drawn() -> None:
    logits = torch.log(torch.tensor([[0.1, 0.6, 0.3]])).repeat(64, 1)
    drawn = _draws(Release(temperature=1.0, top_p=0.7), 0, 64)(logits)
    assert set(drawn.tolist()) == {1, 2}
    drawn = _draws(Release(temperature=1.0, top_p=0.01), 0, 64)(logits)
    assert set(drawn.tolist()) == {1}


def test_a_model_that_has_diverged_writes_samples_too() -> None:
    logits = torch.tensor([[float("nan")] * 4, [0.0, float("inf"), 1.0, 2.0]])
    drawn = _draws(Release(temperature=1.0, top_p=0.7), 0, 2)(logits)
    assert ((drawn >= 0) & (drawn < 4)).all()


@pytest.mark.parametrize(("deepspeed", "precision"), STAGES[2:])  # whole weights, and parts of them
def test_samples_leave_no_trace_in_the_training(
    workdir: Workdir, alone: None, tmp_path: Path, deepspeed: str, precision: str
) -> None:
    (workdir.folder / "zero2.json").write_text(deepspeed, encoding="utf-8")
    quiet, writing = (engine(workdir, precision, "model.dropout=0.1") for _ in range(2))
    for number in range(2):
        for one in (quiet, writing):
            step(one, number)
        ids = continued(PROMPTS, 3, lambda *at: writing.next_logits(*at).argmax(-1))
        assert [len(row) for row in ids] == [6, 4]
    assert state(writing, 2, tmp_path / "writing") == state(quiet, 2, tmp_path / "quiet")


def test_a_prompt_that_leaves_no_room_is_left_out_by_name(
    workdir: Workdir, capsys: pytest.CaptureFixture[str]
) -> None:
    prompts = "release.prompts=[駅伝, 駅駅駅駅駅駅駅駅]"
    recipe = workdir.recipe(*SMALL, prompts)
    tokenizer = vocabulary.trained(["駅伝 を 走る"], "lossless")
    assert [*tokenized(recipe, tokenizer)] == ["駅伝"]
    said = capsys.readouterr()
    assert "no samples of '駅駅駅駅駅駅駅駅', which has 8 tokens" in said.out + said.err
