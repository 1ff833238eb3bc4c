"""The plain batch scripts of sbatch/ on a real Slurm: the jobs, trap and requeue of those of `submit`."""

from __future__ import annotations

import json
import os
import pty
import select
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from kit.store.files import read_json
from kit.store.paths import Run, Workspace
from tests.relay import DEMO, FP32, ROOT, SHORT, curve, final_files, log_of, wait_for_step
from tests.speed import patience
from tests.warm import light as command

from .trial import CLUSTER, PATIENCE, WHOLE

if TYPE_CHECKING:
    from pathlib import Path

    from .conftest import Slurm

# The options of a job that its script decides, as Slurm shows them.
SAME = ("JobName", "Partition", "TimeLimit", "Requeue", "NumNodes", "NumTasks", "CPUs/Task", "TRES",
        "MinMemoryNode", "ArrayTaskThrottle", "TresPerNode", "OverSubscribe")  # fmt: skip


def send(line: str, folder: Path, *options: str) -> str:
    """Submit by a line that `prepare` has printed; the id of the job."""
    name, _, _ = line.partition("=")
    given = line.replace("sbatch ", f"sbatch {' '.join(options)} ", 1)
    shell = f"cd {ROOT} && {given} && echo ${name}"
    options_of_shell = {"SBATCH_OUTPUT": f"{folder}/%x-%A.log"}
    done = subprocess.run(
        ["bash", "-c", shell],
        env=os.environ | options_of_shell,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def prepared(*arguments: str) -> dict[str, str]:
    """The lines of `prepare` by stage."""
    printed = command("pipeline", "prepare", str(DEMO), *arguments).splitlines()
    assert printed[0].startswith("# run directory: ")
    return {
        line.partition("=")[0]: line for line in printed if not line.startswith(("#", "warning"))
    }


def test_a_plain_job_is_requeued_after_a_failure_and_is_the_one_that_submit_sends(
    slurm: Slurm, tmp_path: Path
) -> None:
    site = tmp_path / "site.yaml"
    # The first start of each task fails where srun would be called.
    fails = 'if [ -z "$SLURM_RESTART_COUNT" ]; then command() { return 3; }; fi'
    memory = "arrays: {partition: low, minutes: 10, parallel: 2, memory_gb: 1}"
    text = f"name: site\nkind: slurm\n{memory}\ntraining: {{ranks_per_node: 1}}\n"
    site.write_text(f"{text}setup: [{json.dumps(fails)}]\n", encoding="utf-8")
    given = (f"workspace={tmp_path}/駅 伝", FP32, "--cluster", str(site))
    later = ("name=sent", "cluster.sbatch.begin=now+3600")
    command("download", "submit", str(DEMO), *later, *given)
    sent = read_json(Workspace(tmp_path / "駅 伝").run("sent").jobs)["slurm"]["download"]
    line = prepared("name=plain", *given)["download"]
    job = send(line, tmp_path, "--hold")  # a job that has started shows its nodes otherwise
    run = Workspace(tmp_path / "駅 伝").run("plain")

    expected, found = slurm.job(f"{sent}_0"), slurm.job(f"{job}_0")
    assert found["JobName"] == "plain-download"
    assert expected["JobName"] == "sent-download"
    for field in SAME[1:]:
        assert found.get(field) == expected.get(field), field
    slurm.run("scancel", sent)
    slurm.run("scontrol", "release", job)

    for task in range(2):
        fields = slurm.wait(f"{job}_{task}", "COMPLETED", timeout=PATIENCE)
        assert fields["Restarts"] == "1"
    assert read_json(run.jobs)["slurm"] == {"download": job}
    rows = [json.loads(row) for row in run.requeues.read_text().splitlines()]
    assert [row["reason"] for row in rows] == ["failed (exit code 3)"] * 2
    assert {row["job"] for row in rows} == {f"{job}_0.0", f"{job}_1.0"}
    assert log_of(run, "download").count("download: done") == 2
    assert (tmp_path / f"plain-download-{job}.log").read_text().count("start 1 of job") == 2
    (shown,) = [s for s in status_of(run) if s["name"] == "download"]
    assert (shown["state"], shown["done"]) == ("done", 2)


def status_of(run: Run) -> list[dict[str, object]]:
    """The stages of `status`, with their names."""
    facts = json.loads(command("pipeline", "status", str(run.root), "--json"))
    return [{"name": name, **stage} for name, stage in facts["stages"].items()]


def test_an_index_beyond_the_recipes_tasks_is_refused_and_not_requeued(
    slurm: Slurm, tmp_path: Path
) -> None:
    given = (f"workspace={tmp_path}", FP32, "--cluster", CLUSTER)
    line = prepared(*given)["tokenize"].replace("--dependency=afterok:$tokenizer ", "")
    job = send(line.replace("--array=0-1%2", "--array=2"), tmp_path)
    fields = slurm.wait(f"{job}_2", "FAILED", timeout=PATIENCE)
    assert (fields["ExitCode"], fields["Restarts"]) == ("2:0", "0")
    log = (tmp_path / f"demo-tokenize-{job}.log").read_text()
    assert "tokenize has no task 2 of 2; use --array=0-1" in log


def test_a_shell_on_a_node_has_the_code_of_the_run(slurm: Slurm, tmp_path: Path) -> None:
    prepared(f"workspace={tmp_path}", FP32, "--cluster", CLUSTER)
    run = Workspace(tmp_path).run("demo")
    ask = 'echo "<$(hostname) $(python -c "import kit; print(kit.__file__)") $EKIDEN_RESOURCES>"'
    printed = at_terminal([f"{ROOT}/sbatch/shell.sh", str(run.root), "--partition=low"], ask)
    assert f"<mdx1 {run.code.resolve()}/kit/__init__.py single>" in printed


def at_terminal(command: list[str], line: str) -> str:
    """What a program at a terminal prints, when a line and the end of the input are typed."""
    master, slave = pty.openpty()
    with subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave) as program:
        os.close(slave)
        printed, end, typed = b"", time.monotonic() + patience(60), False
        while time.monotonic() < end:
            if not select.select([master], [], [], 1)[0]:
                continue
            try:
                read = os.read(master, 4096)
            except OSError:  # the program has left
                break
            printed += read
            if not typed and b"$ " in printed:
                os.write(master, f"{line}; exit\n".encode())
                typed = True
        program.wait(timeout=patience(10))
    os.close(master)
    return printed.decode()


@pytest.mark.long
def test_a_chain_of_plain_jobs_ends_with_the_weights_of_the_chain_that_submit_sends(
    slurm: Slurm, tmp_path: Path, preempted: tuple[Run, dict[str, str]]
) -> None:
    given = (*SHORT, f"workspace={tmp_path}", "--cluster", CLUSTER)
    ids: dict[str, str] = {}
    for name, line in prepared(*given).items():
        after = line.partition("afterok:$")[2].partition(" ")[0]
        ids[name] = send(line.replace(f"${after} ", f"{ids.get(after)} ", 1), tmp_path)
    run = Workspace(tmp_path).run("demo")
    wait_for_step(run, 20)
    refused = command("pipeline", "submit", str(run.root), code=2)
    assert f"job {ids['train']} of this run is RUNNING" in refused
    second = send(prepared_line(run), tmp_path)
    assert slurm.wait(second, "FAILED")["ExitCode"] == "2:0"
    high = slurm.submit("sleep 5", "--partition=high", *WHOLE)
    slurm.wait(high, "RUNNING", timeout=PATIENCE)
    slurm.wait(ids["generate"], "COMPLETED", timeout=PATIENCE)
    assert int(slurm.job(ids["train"])["Restarts"]) == 1
    assert {stage["state"] for stage in status_of(run)} == {"done"}
    assert final_files(run) == final_files(preempted[0])
    assert curve(run) == curve(preempted[0])


def prepared_line(run: Run) -> str:
    """A second training job of a run, by hand."""
    options = "--partition=low --ntasks-per-node=2 --gpus-per-node=2 --cpus-per-task=1"
    return f"train=$(sbatch --parsable {options} sbatch/train.sbatch {run.root})"
