"""The kinds of interruption: each one something that happens to a job, done for real."""

from __future__ import annotations

import signal
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from kit.training import checkpoint
from tests.relay import wait_until

from .phases import PHASES
from .places import Local, OnSlurm, Place, SmallDisk

if TYPE_CHECKING:
    import random
    from collections.abc import Callable
    from pathlib import Path

    from kit.store.paths import Run

    from .phases import Watch
    from .processes import Start

TERM, USR2, KILL, STOP = signal.SIGTERM, signal.SIGUSR2, signal.SIGKILL, signal.SIGSTOP
RUNNING = PHASES[1:]
PATIENCE = 120  # seconds of the tests' machine, for what takes a few


@dataclass
class Scene:
    """All that an interruption can lay hands on."""

    run: Run
    place: Place
    start: Start
    watch: Watch
    dice: random.Random
    disk: SmallDisk | None
    orphans: list[Start]
    expected: dict[int, str] = field(
        default_factory=dict
    )  # checkpoint of the attempt after this one


@dataclass(frozen=True)
class Kind:
    """A kind of interruption.

    `prepare` is done while steps go on, `strike` in the phase that was aimed at. After a `graceful`
    one no step is lost, wherever it came but in the start-up. `stays` leaves the ranks alive. `warns`
    may do so in the start-up: a task ignores warnings until the training handles them.
    """

    name: str
    strike: Callable[[Scene], None]
    prepare: Callable[[Scene], None] = lambda scene: None
    phases: tuple[str, ...] = PHASES
    graceful: bool = False
    hangs: bool = False
    stays: bool = False
    warns: bool = False
    possible: Callable[[Scene], bool] = lambda scene: True


def _signal(number: signal.Signals, *ranks: int) -> Callable[[Scene], None]:
    return lambda scene: scene.start.send(number, *ranks)


def _apart(scene: Scene) -> None:
    first, second = scene.dice.sample(sorted(scene.start.ranks), 2)
    scene.start.send(TERM, first)
    time.sleep(0.3)
    scene.start.send(TERM, second)


def _twice(scene: Scene) -> None:
    scene.start.send(scene.dice.choice((TERM, USR2)))
    time.sleep(scene.dice.uniform(0, 0.2))
    scene.start.send(TERM)


def _stop_file(scene: Scene) -> None:
    scene.run.stop.touch()


def _save_file(scene: Scene) -> None:
    scene.run.save.touch()
    wait_until(
        lambda: not (scene.run.save.exists() and scene.start.alive()), "sign of SAVE", PATIENCE
    )


def _supervisor(number: signal.Signals) -> Callable[[Scene], None]:
    def strike(scene: Scene) -> None:
        assert isinstance(scene.place, Local)
        assert scene.place.supervisor is not None
        scene.place.supervisor.send(number)

    return strike


def _power_cut(scene: Scene) -> None:
    _supervisor(KILL)(scene)
    scene.start.send(KILL)


def _orphan(scene: Scene) -> None:
    _supervisor(KILL)(scene)
    scene.orphans.append(scene.start)


def _two_sound_checkpoints(scene: Scene) -> bool:
    found = checkpoint.committed(scene.run)[:2]
    return len(found) == 2 and not any(one.problem() for one in found)


def _rot(damage: Callable[[Path, random.Random], None]) -> Callable[[Scene], None]:
    """Kill all, and damage a file of the newest checkpoint: the one before is to be used."""

    def strike(scene: Scene) -> None:
        scene.start.send(KILL)
        assert scene.start.wait(PATIENCE)
        newest, before = checkpoint.committed(scene.run)[:2]
        files = [newest.state / name for name in newest.record["files"]]
        damage(scene.dice.choice([*files, newest.folder / "checkpoint.json"]), scene.dice)
        assert scene.watch.attempt is not None
        scene.expected[scene.watch.attempt.number + 1] = before.folder.name

    return strike


def _flip(path: Path, dice: random.Random) -> None:
    with path.open("r+b") as stream:
        size = path.stat().st_size
        stream.seek(dice.randrange(size))
        old = stream.read(1)
        stream.seek(-1, 1)
        # The first byte of a manifest gives no JSON; a bit further on could be a time in it.
        if path.suffix == ".json":
            stream.seek(0)
        stream.write(bytes([old[0] ^ (1 << dice.randrange(8))]))


def _truncate(path: Path, dice: random.Random) -> None:
    with path.open("r+b") as stream:
        stream.truncate(dice.randrange(path.stat().st_size))


def _remove(path: Path, dice: random.Random) -> None:
    path.unlink()


def _fill(scene: Scene) -> None:
    """Fill the disk, before a save or within one, and wait for a save that fails of it."""
    assert scene.disk is not None

    def failed() -> bool:
        scene.watch.look()
        return "save_failed" in scene.watch.kinds or not scene.start.alive()

    if scene.dice.random() < 0.5 and (found := checkpoint.committed(scene.run)):
        size = sum(file["size"] for file in found[0].record["files"].values())
        scene.disk.fill(leave=int(1.2 * size))  # enough for a save to begin
        wait_until(lambda: scene.watch.saving() or failed(), "save", PATIENCE, every=0.002)
    scene.disk.fill()
    wait_until(failed, "save that fails", PATIENCE)


def _freed(number: signal.Signals, *, before: bool) -> Callable[[Scene], None]:
    """A signal to all ranks, and the disk's room given back before it or when all have ended."""

    def strike(scene: Scene) -> None:
        assert scene.disk is not None
        if before:
            scene.disk.free()
        scene.start.send(number)
        scene.start.wait(PATIENCE)
        scene.disk.free()

    return strike


def _slurm(act: Callable[[OnSlurm], Any]) -> Callable[[Scene], None]:
    def strike(scene: Scene) -> None:
        assert isinstance(scene.place, OnSlurm)
        act(scene.place)

    return strike


def _to_step(name: str) -> Callable[[OnSlurm], Any]:
    return lambda place: place.slurm.run("scancel", f"--signal={name}", f"{place.job}.0")


def _alone(scene: Scene) -> bool:
    return not any(start.alive() for start in scene.orphans)


_rots = {"phases": RUNNING, "possible": _two_sound_checkpoints}
EVERYWHERE = (
    Kind("TERM to rank 0", _signal(TERM, 0), graceful=True),
    Kind("TERM to rank 1", _signal(TERM, 1), graceful=True),
    Kind("STOP file", _stop_file, graceful=True),
    Kind("SAVE file, KILL to all", _signal(KILL), prepare=_save_file, phases=RUNNING),
    Kind("KILL to rank 0", _signal(KILL, 0)),
    Kind("KILL to rank 1", _signal(KILL, 1)),
    Kind("byte flipped", _rot(_flip), **_rots),
    Kind("file truncated", _rot(_truncate), **_rots),
    Kind("file removed", _rot(_remove), **_rots),
    Kind("rank 0 hangs", _signal(STOP, 0), hangs=True, phases=RUNNING),
    Kind("rank 1 hangs", _signal(STOP, 1), hangs=True, phases=RUNNING),
)
FULL_DISK = (
    Kind(
        "disk full, KILL to all",
        _freed(KILL, before=False),
        prepare=_fill,
        phases=("step", "validation"),
    ),
    Kind(
        "disk full, TERM to all",
        _freed(TERM, before=False),
        prepare=_fill,
        phases=("step", "validation"),
    ),
    Kind(
        "disk full and freed, TERM to all",
        _freed(TERM, before=True),
        prepare=_fill,
        phases=("step", "validation"),
        graceful=True,
    ),
)
LOCAL = (
    *EVERYWHERE,
    Kind("TERM to all", _signal(TERM), graceful=True),
    Kind("TERM to all, 300 ms apart", _apart, graceful=True),
    Kind("two signals in a row", _twice, graceful=True),
    Kind("USR2 to all", _signal(USR2), graceful=True, warns=True),
    Kind("KILL to all", _signal(KILL)),
    Kind("TERM to the supervisor", _supervisor(TERM), graceful=True),
    Kind("KILL to supervisor and ranks", _power_cut),
    Kind("KILL to the supervisor", _orphan, stays=True, phases=RUNNING, possible=_alone),
)
# Nobody may be left to decide over a requeue: after scancel Slurm kills the batch shell, too, when
# KillWait is over.
UNDECIDED = ("KILL to supervisor and ranks", "KILL to the supervisor", "scancel")
SLURM = (
    *EVERYWHERE,
    Kind("preemption", _slurm(OnSlurm.preempt), graceful=True),
    Kind(
        "scontrol requeue",
        _slurm(lambda p: p.slurm.run("scontrol", "requeue", p.job)),
        graceful=True,
    ),
    Kind("scancel", _slurm(lambda p: p.slurm.run("scancel", p.job)), graceful=True),
    Kind("TERM to the step", _slurm(_to_step("TERM")), graceful=True),
    Kind("USR2 to the step", _slurm(_to_step("USR2")), graceful=True, warns=True),
    Kind("KILL to the step", _slurm(_to_step("KILL"))),
)
