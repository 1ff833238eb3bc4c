"""What a reader makes of a released folder, with transformers of any version and nothing of the kit.

python tests/reading.py FOLDER ASKED OUT

ASKED is JSON with `texts`, to be encoded, and `prompts`, to be continued; OUT becomes an .npz of what
`read` returns.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

NEW = 12  # tokens of a continuation


def read(folder: Path, texts: list[str], prompts: list[str]) -> dict[str, Any]:
    """Ids of the texts (as they are, and with special tokens as text), logits, and continued prompts."""
    import torch
    import transformers
    from transformers import AutoModelForCausalLM, AutoTokenizer, pipeline

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder).float().eval()
    try:
        plain = tokenizer(texts, split_special_tokens=True)["input_ids"]
    except TypeError:  # fast tokenizers do not know it yet
        plain = []
    ids = tokenizer(texts)["input_ids"]
    with torch.no_grad():
        logits = [model(torch.tensor([row[:60]])).logits[0].numpy() for row in ids[:20] if row]
    greedy = {"do_sample": False, "max_new_tokens": NEW}
    one_by_one = [
        tokenizer.decode(
            model.generate(**tokenizer(prompt, return_tensors="pt"), **greedy)[0],
            skip_special_tokens=True,
        )
        for prompt in prompts
    ]
    rows = model.generate(**tokenizer(prompts, padding=True, return_tensors="pt"), **greedy)
    writer = pipeline("text-generation", model=str(folder))
    return {
        "version": transformers.__version__,
        "ids": json.dumps(ids),
        "plain": json.dumps(plain),
        "logits": np.concatenate(logits),
        "greedy": json.dumps(one_by_one),
        "batch": json.dumps(tokenizer.batch_decode(rows, skip_special_tokens=True)),
        "ended": json.dumps(tokenizer("終" + tokenizer.eos_token)["input_ids"][-1]),
        "pipeline": json.dumps(
            [writer(prompt, return_tensors=True)[0]["generated_token_ids"] for prompt in prompts]
        ),
        "special": json.dumps(
            [tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token, tokenizer.unk_token]
        ),
    }


if __name__ == "__main__":
    asked = json.loads(Path(sys.argv[2]).read_text(encoding="utf-8"))
    np.savez(sys.argv[3], **read(Path(sys.argv[1]), asked["texts"], asked["prompts"]))
