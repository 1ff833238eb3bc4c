"""Slurm's words for why a job waits, in words that a user knows, and the command that helps.

    reasons.words("Priority")                  # "jobs of a higher priority come first"
    reasons.told("Priority")                   # "Slurm: Priority (jobs of a higher priority come first)"
    reasons.remedy("JobHeldUser", "17")        # "scontrol release 17"

The words are those of squeue's manual (22.05 to 24.11); a word that is not listed here is shown as it is.
"""

from __future__ import annotations

import re

_WORDS = {
    "None": None,  # told as not scheduled yet
    "BeginTime": "waits for its begin time, as after a requeue",
    "Dependency": "waits for the job before it",
    "DependencyNeverSatisfied": "the job before it did not succeed, so it will never start",
    "Resources": "next in line for nodes that become free",
    "Priority": "jobs of a higher priority come first",
    "JobArrayTaskLimit": "as many tasks run as `parallel` of the cluster file allows",
    "JobHeldUser": "held by its user",
    "JobHeldAdmin": "held by an administrator, who alone can release it",
    "JobHoldMaxRequeue": "held after too many requeues",
    "launch failed requeued held": "held, as it could not be launched on its node",
    "user env retrieval failed requeued held": "held, as its environment could not be read",
    "Licenses": "waits for a licence",
    "NodeDown": "a node that it needs is down",
    "PartitionDown": "the partition is down",
    "PartitionInactive": "the partition starts no jobs",
    "PartitionNodeLimit": "more nodes than the partition allows",
    "PartitionTimeLimit": "a time limit above that of the partition",
    "Reservation": "waits for its reservation to begin",
    "ReservationDeleted": "its reservation was deleted",
    "BadConstraints": "no node can ever meet its request",
    "Constraints": "no node that meets its constraint is free",
    "InvalidAccount": "its account is not valid",
    "InvalidQOS": "its QOS is not valid",
    "QOSNotAllowed": "its account or partition does not allow its QOS",
    "AccountNotAllowed": "the partition does not allow its account",
    "ReqNodeNotAvail": "nodes that it needs are down, drained or reserved",
}
_PATTERNS = (  # tried in order, for words that come in many forms or with more text
    (
        re.compile(r"maintenance", re.I),
        "its nodes are reserved for maintenance before it could end",
    ),
    (re.compile(r"^ReqNodeNotAvail"), _WORDS["ReqNodeNotAvail"]),
    (
        re.compile(r"^Nodes required for job are"),
        "nodes that it needs are down, drained or reserved",
    ),
    (re.compile(r"^QOS|PerQOS"), "a limit of its QOS is reached"),
    (re.compile(r"^(Assoc|Max\w*PerAccount)"), "a limit of its account or user is reached"),
)
_RELEASED = ("JobHeldUser", "JobHoldMaxRequeue", "requeued held")


def words(reason: str) -> str | None:
    """The reason in a user's words; None for a word that is not known."""
    if reason in _WORDS:
        return _WORDS[reason]
    return next((text for pattern, text in _PATTERNS if pattern.search(reason)), None)


def told(reason: str) -> str:
    """Slurm's word, with an explanation; for a moment after a submission it has none."""
    if reason == "None":
        return "Slurm: not scheduled yet"
    meaning = words(reason)
    return f"Slurm: {reason} ({meaning})" if meaning else f"Slurm: {reason}"


def remedy(reason: str, job: str) -> str | None:
    """The command that lets the job start; None if there is nothing to type but to wait."""
    held = any(word in reason for word in _RELEASED)
    return f"scontrol release {job}" if held else None
