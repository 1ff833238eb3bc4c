"""One relay for all tests: a workspace with tokens, and a run that was preempted once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kit.store.paths import Run, Workspace
from tests.relay import DEMO, SHORT, copy_of
from tests.warm import command

if TYPE_CHECKING:
    from pathlib import Path

PREEMPTED_AT = "cluster.preempt_at_step=20"
SECRET = ("SITE_API_TOKEN", "hunter2-hunter2")  # in the environment of that run
SAID = "said.txt"  # what the command of `preempted` said, in its workspace
# Where nothing depends on two ranks agreeing: half the processes to start.
ALONE = ("cluster.training.ranks_per_node=1",)


@pytest.fixture(scope="session")
def preempted(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A whole relay whose training is preempted once."""
    workspace = tmp_path_factory.mktemp("relay")
    passed = f"cluster.environment.{SECRET[0]}=null"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(*SECRET)
        where = (str(DEMO), f"workspace={workspace}")
        said = command("pipeline", "run", *where, *SHORT, PREEMPTED_AT, passed)
    (workspace / SAID).write_text(said)
    return Workspace(workspace).run("demo")


@pytest.fixture(scope="session")
def workspace(tmp_path_factory: pytest.TempPathFactory, tokens: Path) -> Path:
    """A workspace whose tokens are made."""
    return copy_of(tokens, tmp_path_factory.mktemp("tokens"))
