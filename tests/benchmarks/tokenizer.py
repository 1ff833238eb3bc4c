"""The tokenizer and the tokens against what one would run instead, on real Japanese.

    python -m tests.benchmarks.tokenizer [--json] [--only WORD] [--data FILE ...]

training: a vocabulary from counted words, beside tokenizers' own trainer, with equal merges; memory:
the same of ten million distinct words; encoding: shards into token files, with equal tokens; reading:
blocks out of them. The text is Debian's Japanese manuals, or the files named with --data.
"""

from __future__ import annotations

import sys

from tests.benchmarks import counted, harness, tokens

if __name__ == "__main__":
    sys.exit(
        harness.main(
            __doc__ or "",
            {
                "training": counted.training,
                "memory": counted.memory,
                "encoding": tokens.encoding,
                "reading": tokens.reading,
            },
        )
    )
