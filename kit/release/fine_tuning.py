"""The snippet of a model card that fine-tunes the model, with nothing but torch and transformers.

A test runs what `snippet` returns and sees the model stop after the taught texts. `text + eos_token` ends
with the id of `</s>`, and the collator masks the labels of `<pad>`, which is another token: so the end is
learned. The batches are padded on the right, since without `generate` positions are counted from the left
end of a row.
"""

from __future__ import annotations

import json

from kit.release import prompt_snippet

FOLDER, TUNED = "PATH_OF_THIS_FOLDER", "fine-tuned"
_TEXTS = ["空は何色ですか。青です。", "雪は何色ですか。白です。"]
_SNIPPET = """{imports}import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, DataCollatorForLanguageModeling

texts = {texts}  # yours
{words}
folder = "{folder}"
model = AutoModelForCausalLM.from_pretrained(folder).float().train()
tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="right")
rows = [tokenizer(text + tokenizer.eos_token) for text in texts]
collator = DataCollatorForLanguageModeling(tokenizer, mlm=False)
batches = torch.utils.data.DataLoader(rows, batch_size=8, shuffle=True, collate_fn=collator)
optimizer = torch.optim.AdamW(model.parameters(), lr=5e-5)
for epoch in range(3):
    for batch in batches:
        model(**batch).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
model.save_pretrained("{tuned}")
AutoTokenizer.from_pretrained(folder).save_pretrained("{tuned}")
"""
_IN_WORDS = """
{definition}

texts = [words(text) for text in texts]
"""


def snippet(segmenter: str | None = None, spaces: str = "lossless") -> str:
    """Python that teaches a model texts and their ends; with a segmenter, texts in words.

    `segmenter`, `spaces`: the values of `corpus.segmenter` and `tokenizer.spaces` of the recipe.
    """
    imports = words = ""
    if segmenter:
        imports, definition = prompt_snippet.parts(segmenter, spaces)
        words = _IN_WORDS.format(definition=definition)
    return _SNIPPET.format(
        imports=imports,
        texts=json.dumps(_TEXTS, ensure_ascii=False),
        words=words,
        folder=FOLDER,
        tuned=TUNED,
    )
