"""What a user does with a release next: fine-tuning by TRL, all weights or those of an adapter by PEFT.

python tests/tuning.py FOLDER OUT

OUT gets `tuned`, `adapter` and `merged`: folders that transformers, PEFT and transformers load. What was
seen is printed as JSON, the last line.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import AutoPeftModelForCausalLM, LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import SFTConfig, SFTTrainer

TEXTS = ["空は何色ですか。青です。", "雪は何色ですか。本当に白です。"]
STEPS, POSITIONS = 60, 64


def trainer(folder: str, out: Path, steps: int, **more: Any) -> SFTTrainer:
    """A trainer as the pages of TRL show it; on CPUs, with small batches."""
    settings = SFTConfig(
        output_dir=str(out), max_steps=steps, save_steps=20, per_device_train_batch_size=4,
        learning_rate=3e-3, lr_scheduler_type="constant", max_length=POSITIONS, report_to=[],
        use_cpu=True, bf16=False, disable_tqdm=True, model_init_kwargs={"dtype": "float32"},
    )  # fmt: skip
    rows = Dataset.from_list([{"text": text} for text in TEXTS * 8])
    return SFTTrainer(model=folder, args=settings, train_dataset=rows, **more)


def tuned(folder: str, out: Path, **more: Any) -> dict[str, Any]:
    """Train to the end, and interrupted; save the result as `out`."""
    whole = trainer(folder, out.with_suffix(".whole"), STEPS, **more)
    whole.train()
    whole.save_model(str(out))
    apart = out.with_suffix(".apart")
    trainer(folder, apart, STEPS - 20, **more).train()
    resumed = trainer(folder, apart, STEPS, **more)
    resumed.train(resume_from_checkpoint=True)
    pairs = zip(whole.model.state_dict().values(), resumed.model.state_dict().values(), strict=True)
    batch = next(iter(whole.get_train_dataloader()))
    taught = [[n for n in row if n != -100] for row in batch["labels"].tolist()]
    return {"resumed": all(map(torch.equal, *zip(*pairs, strict=True))), "taught": taught}


def written(folder: Path) -> list[str]:
    """What a tuned folder writes after the taught questions, in a batch, padded."""
    model, tokenizer = (
        AutoModelForCausalLM.from_pretrained(folder),
        AutoTokenizer.from_pretrained(folder),
    )
    questions = [text[: text.index("。") + 1] for text in TEXTS]
    given = tokenizer(questions, padding=True, return_tensors="pt")
    rows = model.eval().generate(**given, do_sample=False, max_new_tokens=20)
    return [tokenizer.decode(row) for row in rows[:, given["input_ids"].shape[1] :]]


def merged(adapter: Path, out: Path) -> float:
    """Save a model with its adapter merged; the largest difference between logits to the two apart."""
    tokenizer = AutoTokenizer.from_pretrained(adapter)
    given = tokenizer(TEXTS[0], return_tensors="pt")
    model = AutoPeftModelForCausalLM.from_pretrained(adapter, dtype=torch.float32).eval()
    with torch.no_grad():
        apart = model(**given).logits
        model.merge_and_unload().save_pretrained(out)
        tokenizer.save_pretrained(out)
        one = AutoModelForCausalLM.from_pretrained(out).eval()(**given).logits
    return float((apart - one).abs().max())


if __name__ == "__main__":
    given, out = sys.argv[1], Path(sys.argv[2])
    seen: dict[str, Any] = {"texts": TEXTS}
    seen |= {"all": tuned(given, out / "tuned"), "written": written(out / "tuned")}
    seen["adapter"] = tuned(given, out / "adapter", peft_config=LoraConfig(task_type="CAUSAL_LM"))
    seen["merged"] = merged(out / "adapter", out / "merged")
    print(json.dumps(seen, ensure_ascii=False))
