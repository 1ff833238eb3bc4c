"""What vLLM makes of a released folder, on CPUs.

python tests/served.py FOLDER ASKED OUT

ASKED is JSON with `prompts` and `new`, a number of tokens. OUT becomes JSON: `ids` of the prompts, the
log-probability of each id after the first, the greedy continuations, and the `sampling` by default.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

SETTINGS = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_CPU_KVCACHE_SPACE": "1",  # GiB
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_HOST_IP": "127.0.0.1",
    "GLOO_SOCKET_IFNAME": "lo",
    "VLLM_NO_USAGE_STATS": "1",
    "HF_HUB_OFFLINE": "1",
}


def read(folder: str, prompts: list[str], new: int) -> dict[str, Any]:
    """Ids, log-probabilities and continuations."""
    from vllm import LLM, SamplingParams

    model = LLM(model=folder, dtype="float32", enforce_eager=True, seed=0)
    greedy = SamplingParams(temperature=0, max_tokens=new, prompt_logprobs=1)
    outputs = model.generate(prompts, greedy)
    default = model.get_default_sampling_params()
    return {
        "ids": [one.prompt_token_ids for one in outputs],
        "logs": [
            [
                found[n].logprob
                for n, found in zip(one.prompt_token_ids[1:], one.prompt_logprobs[1:], strict=True)
            ]
            for one in outputs
        ],
        "continued": [list(one.outputs[0].token_ids) for one in outputs],
        "sampling": [default.temperature, default.top_p, default.max_tokens],
    }


if __name__ == "__main__":
    os.environ.update(SETTINGS)  # before vLLM is imported
    asked = json.loads(Path(sys.argv[2]).read_text(encoding="utf-8"))
    Path(sys.argv[3]).write_text(json.dumps(read(sys.argv[1], asked["prompts"], asked["new"])))
