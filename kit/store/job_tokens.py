"""Tokens of the starts of jobs, `JOB.RESTARTS`: 17.0, after a requeue 17.1, of an array 17_3.0."""

from __future__ import annotations


def job_of(token: str) -> str:
    """The id of the job, the same in all its starts."""
    return token.rsplit(".", 1)[0]


def restarts_of(token: str) -> int:
    """The number of requeues before this start."""
    return int(token.rsplit(".", 1)[1])
