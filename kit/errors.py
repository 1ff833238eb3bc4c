"""Every error a user can meet, in one tree.

The message is one line: the value, where it came from, what is allowed, and what to do. A command
prints it and exits with `exit_code`; a traceback is for our own bugs only.
"""

from __future__ import annotations

DONE, FAILED, USER_MISTAKE, INTERRUPTED = 0, 1, 2, 75  # 75: EX_TEMPFAIL of sysexits.h


class EkidenError(Exception):
    """A mistake of the user's, or of what the user handed in: one line, exit code 2."""

    exit_code = USER_MISTAKE


class ConfigError(EkidenError):
    """A recipe, a cluster file or an override that cannot be meant; several mistakes are a line each."""

    def __str__(self) -> str:
        if len(self.args) == 1:
            return str(self.args[0])
        return "\n  ".join([f"{len(self.args)} mistakes", *map(str, self.args)])


class InputError(EkidenError):
    """A raw file, shard or prompt that cannot be read as what it should be."""


class StageError(EkidenError):
    """A stage whose predecessor is not complete, or whose files are not those of the manifest."""


class RunError(EkidenError):
    """A run directory that does not fit what is asked of it."""


class CheckpointError(EkidenError):
    """No checkpoint, or none that can be trusted."""


class TrainingStopped(EkidenError):  # noqa: N818  the field's word
    """A run that its recipe's rules ended: it wants a decision of the user's before it goes on."""


class ClusterError(EkidenError):
    """A cluster that is not there, or refuses."""


class JobFailed(EkidenError):  # noqa: N818  the field's word
    """What failed without a mistake of the user's: tried again while retries are left."""

    exit_code = FAILED


class TransferError(InputError):
    """A transfer that broke off, and goes on when it is tried again."""

    exit_code = FAILED


class Interrupted(EkidenError):  # noqa: N818  the field's word, and no error
    """The work was interrupted, is saved, and goes on when the job is started again."""

    exit_code = INTERRUPTED
