"""Slurm's side: limits of partitions, accounts and QOS, and whether sbatch would take the jobs."""

from __future__ import annotations

import getpass
import shutil
from typing import TYPE_CHECKING

from kit.cluster import partition_limits, state
from kit.cluster.preflight.finding import Finding, NotChecked
from kit.errors import ClusterError, EkidenError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kit.cluster.jobs import Job
    from kit.cluster.preflight.finding import Site


def limits(site: Site) -> Finding:
    """Partitions, time limits, nodes and sizes of arrays."""
    _need_slurm(site)
    try:
        state.partitions()
    except ClusterError as error:
        return Finding("limits", "bad", str(error), "run this on a login node, or ask the site")
    problems = list(partition_limits.problems(site.cluster, site.jobs))
    if problems:
        return Finding("limits", "bad", "; ".join(problems), "change the keys named")
    return Finding("limits", "ok", "none is exceeded")


def account(site: Site) -> Finding:
    """Account and QOS of each section against your associations."""
    _need_slurm(site)
    if shutil.which("sacctmgr") is None:
        raise NotChecked("no sacctmgr on the PATH")
    try:
        rows = state.slurm(
            "sacctmgr", "--noheader", "--parsable2", "show", "associations",
            f"user={getpass.getuser()}", "format=account,qos",
        )  # fmt: skip
        enforced = "associations" in state.configuration().get("AccountingStorageEnforce", "")
    except ClusterError as error:
        raise NotChecked(f"accounting does not answer ({error})") from None
    allowed = associations(rows)
    if not allowed:
        if not enforced:
            return Finding("account", "ok", "accounting knows no account of yours, and needs none")
        found, remedy = "accounting knows no account of yours", "ask the site for one"
        return Finding("account", "bad", found, remedy)
    if problems := list(_account_problems(site, allowed)):
        return Finding("account", "bad", "; ".join(problems), "change the keys named")
    return Finding("account", "ok", f"yours: {', '.join(sorted(allowed))}")


def associations(rows: str) -> dict[str, set[str]]:
    """The QOS of each account, from the lines `account|qos,qos` of sacctmgr."""
    found: dict[str, set[str]] = {}
    for row in rows.splitlines():
        name, _, qos = row.partition("|")
        if name:
            found.setdefault(name, set()).update(one for one in qos.split(",") if one)
    return found


def submission(site: Site) -> Finding:
    """The answer of `sbatch --test-only` to the largest job of each section."""
    _need_slurm(site)
    accepted = []
    for job in _largest(site):
        try:
            scripts = [*site.scripts(job)]
        except EkidenError as refused:  # by a limit that the array exceeds
            return Finding("submission", "bad", str(refused), "change the keys named")
        for script in scripts:
            if refusal := _refusal(script):
                found = f"{job.name}: {refusal}"
                remedy = f"see partition, limits and sbatch of cluster.{job.resources}"
                return Finding("submission", "bad", found, remedy)
        accepted.append(job.name)
    return Finding("submission", "ok", f"sbatch would accept {', '.join(accepted) or 'nothing'}")


def _account_problems(site: Site, allowed: dict[str, set[str]]) -> Iterator[str]:
    """Accounts and QOS that a section names and the user does not have."""
    every = set().union(*allowed.values())
    for section in dict.fromkeys(job.resources for job in site.jobs):
        options = site.cluster.sbatch_of(section)
        name, qos = options.get("account"), options.get("qos")
        if name and name not in allowed:
            yield f"account {name} of cluster.{section}: yours are {', '.join(sorted(allowed))}"
        elif qos and qos not in (own := allowed[name] if name else every) and own:
            yield f"QOS {qos} of cluster.{section}: yours are {', '.join(sorted(own))}"


def _largest(site: Site) -> list[Job]:
    """The job with the most tasks of each section of the cluster file."""
    found: dict[str, Job] = {}
    for job in site.jobs:
        before = found.get(job.resources)
        if before is None or len(job.task_numbers) > len(before.task_numbers):
            found[job.resources] = job
    return list(found.values())


def _refusal(script: str) -> str | None:
    """What `sbatch --test-only` says against a script; None if it would accept it."""
    try:
        state.slurm("sbatch", "--test-only", script=script)
    except ClusterError as error:
        return str(error).removeprefix("sbatch: ").removeprefix("allocation failure: ")
    return None


def _need_slurm(site: Site) -> None:
    if site.cluster.kind != "slurm":
        raise NotChecked(f"kind: {site.cluster.kind}")
