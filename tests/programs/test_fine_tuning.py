"""A release goes into TRL, PEFT and CTranslate2 as it is; what the first two save reads like a release."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests import architectures, environments
from tests.released import untrained
from tests.vocabulary import trained

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Workdir

pytestmark = [pytest.mark.long, pytest.mark.timeout(3600)]  # pip installs, and TRL trains
NEW = 20  # tokens of a continuation


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python that has them, from PyPI."""
    folder = tmp_path_factory.mktemp("tuning")
    return environments.with_packages(folder, "trl", "peft", "ctranslate2")


@pytest.fixture
def release(workdir: Workdir, web_texts: list[str], shape: tuple[str, ...]) -> Path:
    """A released folder of an untrained model, wide enough to learn two texts."""
    recipe = workdir.recipe("model.n_positions=64", "model.n_embd=320", "model.n_head=4", *shape)
    return untrained(workdir.folder, recipe, trained(web_texts, size=1216))


@architectures.each
def test_trl_teaches_a_release_texts_and_their_ends(
    python: Path, release: Path, root: Path, tmp_path: Path
) -> None:
    program = [python, "-P", root / "tests/tuning.py", release, tmp_path]
    done = subprocess.run(program, check=True, cwd=tmp_path, capture_output=True, text=True)
    seen = json.loads(done.stdout.splitlines()[-1])
    ours = AutoTokenizer.from_pretrained(release)
    texts = seen["texts"]
    whole = {tuple(ours(text + ours.eos_token)["input_ids"]) for text in texts}
    for kind in ("all", "adapter"):
        assert {*map(tuple, seen[kind]["taught"])} == whole  # the end is taught, padding is not
        assert seen[kind]["resumed"]  # bit for bit
    answers = [text[text.index("。") + 1 :] + "</s>" for text in texts]
    assert [text.replace("<pad>", "") for text in seen["written"]] == answers
    assert seen["merged"] < 1e-4
    for name in ("tuned", "adapter", "merged"):
        theirs = AutoTokenizer.from_pretrained(tmp_path / name)
        assert theirs.is_fast
        assert theirs.get_vocab() == ours.get_vocab()
        assert theirs(texts)["input_ids"] == ours(texts)["input_ids"]
        assert theirs.special_tokens_map == ours.special_tokens_map
        assert (theirs.padding_side, theirs.model_max_length) == ("left", 64)


@architectures.each
def test_ctranslate2_computes_what_transformers_does(
    python: Path, release: Path, root: Path, tmp_path: Path
) -> None:
    model = AutoModelForCausalLM.from_pretrained(release).eval()
    tokenizer = AutoTokenizer.from_pretrained(release)
    rows = tokenizer(["霧浜県の", "今日は、駅伝の大会がある", "海"])["input_ids"]
    asked, out = tmp_path / "asked.json", tmp_path / "converted"
    asked.write_text(json.dumps({"rows": rows, "new": NEW}))
    program = [python, "-P", root / "tests/converted.py", release, asked, out]
    subprocess.run(program, check=True, cwd=tmp_path)
    theirs = np.load(out / "read.npz")
    with torch.no_grad():
        ours = np.concatenate([model(torch.tensor([row])).logits[0].numpy() for row in rows])
    assert np.abs(ours - theirs["logits"]).max() < 1e-3
    for row, found in zip(rows, json.loads(str(theirs["continued"])), strict=True):
        given = {"input_ids": torch.tensor([row]), "attention_mask": torch.ones(1, len(row))}
        written = model.generate(**given, do_sample=False, max_new_tokens=NEW)[0].tolist()
        assert found == [n for n in written[len(row) :] if n != tokenizer.eos_token_id]
