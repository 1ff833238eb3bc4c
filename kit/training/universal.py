"""DeepSpeed's universal checkpoints: a state for any number of ranks, from that of one number.

    convert(state, universal)

DeepSpeed 0.19.8 joins both moments of AdamW for every weight, and fails if a state lacks one: line 155 of
its checkpoint/ds_to_universal.py. Muon has one moment. In this program's process the second may be missing:
the universal checkpoint lacks it then, and a weight is loaded with the moments that it has.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kit.training import engine, state_files

if TYPE_CHECKING:
    from collections.abc import Sequence

_SECOND = "exp_avg_sq"


def convert(state: Path, universal: Path) -> None:
    """Convert a checkpoint's `state` to fit any world size, in a process of its own.

    It unpickles the files, which must be the user's own. Raises CheckpointError if one would run code, and
    RuntimeError with the converter's last line if it fails.
    """
    state_files.refuse_code(state)
    home = str(Path(__file__).resolve().parents[2])  # the code of this job, and no other
    path = os.pathsep.join(filter(None, (home, os.environ.get("PYTHONPATH"))))
    folders = ["--input_folder", str(state), "--output_folder", str(universal)]
    done = subprocess.run(
        [sys.executable, "-m", __name__, *folders],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": path, "PYTHONSAFEPATH": "1"},
    )
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines()
        raise RuntimeError(f"universal checkpoint: {lines[-1] if lines else done.returncode}")


def main(arguments: Sequence[str]) -> None:
    """Convert in this process."""
    converter = engine.converter()
    plain = converter.dump_param_fragment

    class Checkpoint(converter.DeepSpeedCheckpoint):  # type: ignore[name-defined,misc]
        def get_zero_checkpoint_state(self, *place: Any, **named: Any) -> Any:
            state = super().get_zero_checkpoint_state(*place, **named)
            for moments in state["optimizer_state_dict"]["base_optimizer_state"]["state"].values():
                moments.setdefault(_SECOND, None)
            return state

    def dump(folder: str, tp: int, dp: int, name: str, values: Any, *rest: Any) -> None:
        if values is not None:
            plain(folder, tp, dp, name, values, *rest)

    converter.DeepSpeedCheckpoint, converter.dump_param_fragment = Checkpoint, dump
    # One worker each: others would not have these.
    workers = ["--num_extract_workers", "1", "--num_merge_workers", "1"]
    sys.argv = [__name__, *arguments, "--inject_missing_state", *workers]
    converter.main(converter.parse_arguments())


if __name__ == "__main__":
    main(sys.argv[1:])
