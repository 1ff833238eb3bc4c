"""When the training of a run counts as done."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from kit.store.files import write_json
from kit.training.unit import TrainingUnit

if TYPE_CHECKING:
    from kit.store.paths import Run


def test_training_is_done_with_a_saved_last_step_that_was_not_put_off(run: Run) -> None:
    training, attempt = TrainingUnit.for_run(run), run.attempt(1)
    write_json(attempt.start, {"from_step": 0, "amendments": 0})
    assert training.state() == "missing"
    write_json(attempt.end, {"outcome": "done", "reason": None, "step": 10})
    assert training.state() == "missing"
    run.checkpoint(10, 1).mkdir(parents=True)
    assert training.state() == "done"
    run.amendments.write_text(json.dumps({"key": "training.keep"}) + "\n")
    assert training.state() == "done"
    run.amendments.write_text(json.dumps({"key": "training.steps"}) + "\n")
    assert training.state() == "missing"
