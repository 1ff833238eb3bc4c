"""`pipeline check`: problems of a site for a recipe, before anything is submitted.

    facts = check.facts(project, on_cluster=True)
    for line in check.lines(facts): print(line)

The checks themselves are in kit/cluster/preflight. Those of the login node run here; those of a node in a
short job with the training's resources, or here too if the cluster is this machine.
"""

from __future__ import annotations

import functools
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kit.cluster import scheduler
from kit.cluster.jobs import Job
from kit.cluster.preflight import catalogue, node
from kit.cluster.preflight.finding import Finding, Site, verdict
from kit.cluster.preflight.start import CHECK, node_name
from kit.config.checks import NAMES
from kit.config.run import Project
from kit.errors import ClusterError, StageError
from kit.output import log
from kit.output.interrupt import keeping
from kit.output.quantities import count
from kit.relay.chain import to_do
from kit.relay.stages import stages_of
from kit.release.tasks import tasks_of
from kit.run import directory
from kit.store.paths import Run, Workspace

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

Facts = dict[str, Any]

_MINUTES = 15  # of the job's time limit: a short job starts sooner
_FIRST, _POLL = 10.0, 60.0  # seconds until squeue is asked, and between two calls
_LOOK = 2.0  # seconds between two looks for results


def facts(project: Project, *, on_cluster: bool) -> Facts:
    """The findings as plain values, with the checks that were not made.

    Raises ClusterError if the job of `on_cluster` is refused, RunError while another one is running.
    """
    site = _site(project)
    skipped: list[dict[str, str]] = []
    names = catalogue.on_login(site)
    found = [
        finding.facts() | {"node": site.node}
        for finding in catalogue.run(
            site, names, lambda *one: skipped.append(_skipped(site.node, *one))
        )
    ]
    found += _of_tasks(site)
    away: list[str] = []
    if on_cluster and not project.cluster.is_this_machine:
        for result in _on_nodes(project):
            found += [one | {"node": result["node"]} for one in result["checks"]]
            skipped += [
                _skipped(result["node"], one["name"], one["why"]) for one in result["skipped"]
            ]
    elif not project.cluster.is_this_machine:
        away = [name for name in catalogue.on_node(site) if name not in names]
    return {
        "recipe": project.recipe.name,
        "cluster": project.cluster.name,
        "verdict": verdict(Finding(one["name"], one["result"], "") for one in found),
        "checks": found,
        "not_checked": skipped,
        "skip": [name for name in NAMES if name in project.cluster.checks.skip],
        "needs_node": away,
    }


def _of_tasks(site: Site) -> Iterator[Facts]:
    """A problem of the tasks to score; nothing skips it."""
    if site.cluster.container is None and any(job.name == "evaluate" for job in site.jobs):
        try:
            tasks_of(site.recipe.release)
        except StageError as error:
            yield Finding("tasks", "bad", str(error), node=site.node).facts() | {"skip": ""}


def lines(facts: Facts) -> Iterator[str]:
    """The findings as a table, the checks that were not made, and the verdict."""
    checks = facts["checks"]
    names, nodes = (
        max(len(one[key]) for one in checks) if checks else 0 for key in ("name", "node")
    )
    for one in checks:
        yield f"{one['result']:7}  {one['node']:{nodes}}  {one['name']:{names}}  {one['found']}"
        if one["remedy"]:
            yield f"{'':{7 + nodes + names + 4}}  -> {one['remedy']}"
    for one in facts["not_checked"]:
        yield f"{'-':7}  {one['node']:{nodes}}  {one['name']:{names}}  not checked: {one['why']}"
    if facts["skip"]:
        yield f"skipped: {', '.join(facts['skip'])}"
    if facts["needs_node"]:
        yield f"on a node only (--on-cluster): {', '.join(facts['needs_node'])}"
    if worst := [one for one in checks if one["result"] != "ok" and one["skip"]]:
        yield f"to skip one: {worst[0]['skip']}"
    yield _verdict(facts)


def _verdict(facts: Facts) -> str:
    results = [one["result"] for one in facts["checks"]]
    told = [f"{results.count(kind)} {kind}" for kind in ("bad", "warning") if kind in results]
    return f"{facts['verdict']}: {', '.join([count(len(results), 'check'), *told])}"


def _site(project: Project) -> Site:
    """The site with the jobs that `submit` would send, or all if nothing is left to do."""
    stages = stages_of(project.recipe)
    unfinished = to_do(project, stages) or stages
    jobs = [stage.job(project.recipe) for stage in unfinished]
    queue = scheduler.for_cluster(project.cluster)

    def scripts(job: Job) -> Iterable[str]:
        fit = queue.fitted(project.cluster, [job])
        return queue.scripts(project.run, project.cluster, fit.jobs).values()

    return Site(project.run, project.recipe, project.cluster, node_name(), jobs, scripts)


def _skipped(where: str, name: str, why: str) -> dict[str, str]:
    return {"name": name, "node": where, "why": why}


def _on_nodes(project: Project) -> Sequence[Facts]:
    """The results of the nodes, from a job that is submitted and awaited."""
    run = Workspace(Path(project.recipe.workspace)).check(project.recipe.name)
    cluster = _short(project)
    queue = scheduler.for_cluster(cluster)
    queue.check(cluster)
    scheduler.ensure_idle(run)
    shutil.rmtree(run.root, ignore_errors=True)
    job = Job(CHECK, node.work, resources="training", title=f"{project.recipe.name}-{CHECK}")
    lay_out = functools.partial(directory.lay_out, Project(run, project.recipe, cluster))
    sent = queue.submit(run, cluster, [job], lay_out)
    (number,) = sent.jobs.values()
    log.info(f"check: job {number} checks {count(cluster.training.nodes, 'node')}")
    try:
        with keeping("the job that checks the nodes is cancelled"):
            return _await(run, number, cluster.training.nodes)
    except BaseException:
        queue.cancel([number])
        raise


def _short(project: Project) -> Any:
    """The cluster with a short time limit for the training's resources, and no retries."""
    cluster = project.cluster
    minutes = min(cluster.training.minutes, _MINUTES)
    return cluster.model_copy(
        update={
            "training": cluster.training.model_copy(update={"minutes": minutes}),
            "arrays": cluster.arrays.model_copy(update={"retries": 0}),
        }
    )


def _await(run: Run, number: str, nodes: int) -> Sequence[Facts]:
    """Wait for the result of each node; squeue is asked once a minute whether the job is still there."""
    due, said = time.monotonic() + _FIRST, ""
    while len(found := node.results(run)) < nodes:
        time.sleep(_LOOK)
        if time.monotonic() < due:
            continue
        due = time.monotonic() + _POLL
        state = _state(run)
        if state is None:
            return [*node.results(run), *_missing(run, number, nodes)]
        if state != said:
            log.info(f"check: job {number} is {state}")
            said = state
    return found


def _state(run: Run) -> str | None:
    """The state of the job in the queue, as `queued (Resources)`; None once it has left."""
    try:
        alive = [
            one for elements in scheduler.queue([run]).values() for one in elements if one.alive
        ]
    except ClusterError as error:  # slurmctld may be restarting
        return f"unknown: {error}"
    if not alive:
        return None
    return f"queued ({alive[0].reason})" if alive[0].state == "PENDING" else alive[0].state.lower()


def _missing(run: Run, number: str, nodes: int) -> list[Facts]:
    """A finding in place of the results that a job that has ended left out."""
    left = nodes - len(node.results(run))
    if left <= 0:
        return []
    remedy = f"see {run.job_logs(CHECK)}"
    text = f"job {number} ended without the result of {count(left, 'node')}"
    finding = Finding("job", "bad", text, remedy, node=f"job {number}")
    return [{"node": finding.node, "checks": [finding.facts() | {"skip": ""}], "skipped": []}]
