"""The snippet of a model card that fine-tunes the model, with nothing but torch and transformers.

A test runs what `snippet` returns and sees the model stop after the taught texts. `text + eos_token` ends
with the id of `</s>`, and the collator masks the labels of `<pad>`, which is another token: so the end is
learned. The batches are padded on the right, since without `generate` positions are counted from the left
end of a row.
"""

from __future__ import annotations

import json

from kit.data.shards import BOUNDARY

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
# By segmenter: imports, and what cuts `texts` into words, as in training.
_WORDS = {
    "mecab": (
        "import fugashi\nimport jumandic\n",
        """tagger = fugashi.GenericTagger(f"-r /dev/null -d '{{jumandic.DICDIR}}'")
texts = [{separator}.join(word.surface for word in tagger(text)) for text in texts]
""",
    ),
    "jumanpp": (
        "import subprocess\n\n",
        """jumanpp = ["jumanpp", "--segment"]
lines = [subprocess.run(jumanpp, input=text, capture_output=True, text=True).stdout for text in texts]
texts = [{separator}.join(line.split()) for line in lines]
""",
    ),
}


def snippet(segmenter: str | None = None, spaces: str = "lossless") -> str:
    """Python that teaches a model texts and their ends; with a segmenter, texts in words.

    `segmenter`, `spaces`: the values of `corpus.segmenter` and `tokenizer.spaces` of the recipe.
    """
    imports, words = _WORDS[segmenter] if segmenter else ("", "")
    separator = json.dumps(BOUNDARY if spaces == "lossless" else " ")
    return _SNIPPET.format(
        imports=imports,
        texts=json.dumps(_TEXTS, ensure_ascii=False),
        words=words.format(separator=separator),
        folder=FOLDER,
        tuned=TUNED,
    )
