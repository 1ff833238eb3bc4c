"""What CTranslate2 makes of a released folder.

python tests/converted.py FOLDER ASKED OUT

ASKED is JSON with `rows`, token ids, and `new`, a number of tokens. OUT, a folder, becomes the converted
model, with `read.npz`: the logits of the rows, and their greedy continuations.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import ctranslate2
import numpy as np
from ctranslate2.converters import TransformersConverter

if __name__ == "__main__":
    folder, asked, out = sys.argv[1], json.loads(Path(sys.argv[2]).read_text()), Path(sys.argv[3])
    TransformersConverter(folder).convert(str(out), quantization="float32")
    generator = ctranslate2.Generator(str(out), device="cpu", intra_threads=1)
    entries = json.loads((out / "vocabulary.json").read_text(encoding="utf-8"))
    continued = [
        generator.generate_batch(
            [[entries[number] for number in row]],
            max_length=asked["new"],
            include_prompt_in_result=False,
        )[0].sequences_ids[0]
        for row in asked["rows"]
    ]
    logits = [np.array(generator.forward_batch([row]))[0] for row in asked["rows"]]
    np.savez(out / "read.npz", logits=np.concatenate(logits), continued=json.dumps(continued))
