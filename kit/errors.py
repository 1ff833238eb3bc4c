"""Every error a user can meet, in one tree; a command exits with the code on the right.

    EkidenError                 2  the user has to change something
    ├── ConfigError             2
    ├── InputError              2
    │   ├── DamagedFile         2
    │   └── TransferError       1
    ├── StageError              2
    ├── RunError                2
    ├── CheckpointError         2
    ├── TrainingStopped         2
    ├── ClusterError            2
    │   └── QueueLimit          2
    ├── JobFailed               1  a retry may succeed
    └── Interrupted            75  saved: submit or run it again to resume

The message is one line: the value, where it came from, what is allowed, and what to do. The command
prints it; a traceback is for our own bugs only.
"""

from __future__ import annotations

DONE, FAILED, USER_MISTAKE, INTERRUPTED = 0, 1, 2, 75  # 75: EX_TEMPFAIL of sysexits.h


class EkidenError(Exception):
    """An error that the user has to act on: one line, exit code 2."""

    exit_code = USER_MISTAKE


class ConfigError(EkidenError):
    """An invalid recipe, cluster file or override; each mistake has a line of its own."""

    def __str__(self) -> str:
        if len(self.args) == 1:
            return str(self.args[0])
        return "\n  ".join([f"{len(self.args)} mistakes", *map(str, self.args)])


class InputError(EkidenError):
    """A raw file, shard or prompt that is damaged or in another format than expected."""


class StageError(EkidenError):
    """A stage whose inputs are incomplete, or whose files differ from their manifest."""


class RunError(EkidenError):
    """A request that this run directory cannot fulfil."""


class CheckpointError(EkidenError):
    """A missing checkpoint, or a damaged one."""


class TrainingStopped(EkidenError):  # noqa: N818  the field's word
    """A run ended by the rules of its recipe: the user decides how it continues."""


class ClusterError(EkidenError):
    """A cluster that cannot be reached, or refuses a request."""


class QueueLimit(ClusterError):  # noqa: N818  the field's word
    """A limit on the number of jobs in the queue, which leaves too little room."""

    def __init__(self, message: str, *, limit: str, job: str = "") -> None:
        """`limit` is its name; `job` the stage that was refused."""
        super().__init__(message)
        self.limit, self.job = limit, job


class JobFailed(EkidenError):  # noqa: N818  the field's word
    """A failure that is no mistake of the user's: retried while retries are left."""

    exit_code = FAILED


class DamagedFile(InputError):  # noqa: N818  says what it is about
    """A file that is truncated, or whose bytes are not those of its format: a fresh copy may help."""


class TransferError(InputError):
    """A download that broke off; a retry resumes it."""

    exit_code = FAILED


class Interrupted(EkidenError):  # noqa: N818  the field's word, and no error
    """Work that was interrupted and saved; starting the job again resumes it."""

    exit_code = INTERRUPTED
