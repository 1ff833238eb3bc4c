"""Services: where a database may lie, who may serve it, and how a browser gets there."""

from __future__ import annotations

import contextlib
import getpass
import os
import socket
import sqlite3
import tempfile
from pathlib import Path

import pytest
from typer.testing import CliRunner

from jobs.watch import app
from kit.errors import ConfigError, InputError, RunError
from kit.store.files import read_json, write_json
from kit.store.mounts import mount_of
from kit.store.paths import Workspace
from kit.watch.services import claim, database, mlflow, passwords, server, tensorboard, tunnel
from kit.watch.services.database import Copy
from tests.services import draw

MOUNTS = r"""
22 1 254:0 / / rw,relatime - ext4 /dev/vda rw
30 22 0:25 / /lustre rw,flock - lustre 10.0.0.1@tcp:/work rw
31 22 0:26 / /home\040of\040all rw - nfs4 server:/home rw
32 30 0:27 / /lustre/fast rw - tmpfs tmpfs rw
33 22 0:28 / /s3 rw - fuse.s3fs s3fs rw
34 22 0:29 / /usb rw - fuseblk /dev/sdb rw
""".strip()


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    made = Workspace(tmp_path / "work")
    made.root.mkdir()
    return made


@pytest.mark.parametrize(
    ("path", "kind", "shared"),
    [
        ("/tmp/x", "ext4", False),
        ("/lustre/group/work", "lustre", True),
        ("/lustre2/group", "ext4", False),
        ("/home of all/me", "nfs4", True),
        ("/lustre/fast/x", "tmpfs", False),
        ("/s3/bucket", "fuse.s3fs", True),
        ("/usb", "fuseblk", False),
    ],
)
def test_a_path_is_shared_if_its_file_system_is(path: str, kind: str, shared: bool) -> None:
    mount = mount_of(Path(path), MOUNTS)
    assert (mount.kind, mount.is_shared) == (kind, shared)


@pytest.fixture
def on_lustre(workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The workspace lies on Lustre, and all else on a disk."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    lustre = f"{MOUNTS}\n40 22 0:30 / {workspace.root} rw - lustre x rw"
    monkeypatch.setattr(database, "mount_of", lambda path: mount_of(path, lustre))


def test_a_workspace_on_a_local_disk_has_its_database_itself(workspace: Workspace) -> None:
    chosen = database.choose(workspace, None, None)
    assert (chosen.file, chosen.copies) == (workspace.mlflow, ())


@pytest.mark.usefixtures("on_lustre")
def test_a_workspace_on_lustre_has_its_database_on_a_disk_that_others_cannot_read(
    workspace: Workspace, tmp_path: Path
) -> None:
    chosen = database.choose(workspace, None, tmp_path / "scratch")
    assert chosen.file is not None
    assert chosen.file.is_relative_to(tmp_path / "scratch")
    assert chosen.file.parent.stat().st_mode & 0o777 == 0o700
    assert [copy.backup for copy in chosen.copies] == [
        workspace.mlflow_server.database,
        workspace.mlflow_server.users,
    ]
    by_default = database.choose(workspace, None, None)
    assert by_default.file is not None
    assert by_default.file.parents[1] == tmp_path


@pytest.mark.usefixtures("on_lustre")
@pytest.mark.parametrize(
    ("store", "scratch", "line"),
    [
        ("sqlite:///WORK/mlflow.db", None, "is lustre, whose file locks do not reach other hosts"),
        (None, "WORK/scratch", "is lustre, which other hosts share"),
        ("postgresql://me:secret@host/runs", None, "a password in a command line is seen"),
        ("postgresql://me@host/runs?password=secret", None, "a password in a command line is seen"),
        ("http://host:5000", None, "not the URI of a database"),
        ("mlflow.db", None, "not the URI of a database"),
    ],
)
def test_a_database_that_is_not_safe_is_refused_with_the_reason(
    workspace: Workspace, store: str | None, scratch: str | None, line: str
) -> None:
    root = str(workspace.root)
    with pytest.raises(ConfigError, match=line) as refused:
        database.choose(
            workspace,
            store and store.replace("WORK", root),
            Path(scratch.replace("WORK", root)) if scratch else None,
        )
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (mlflow.Options(host="0.0.0.0"), "--host 0.0.0.0: other hosts could read"),
        (mlflow.Options(store="postgresql://h/n", scratch=Path("x")), "--scratch: has no effect"),
        (mlflow.Options(backup_minutes=0), "--backup-minutes 0: write a number above 0"),
        (mlflow.Options(backup_minutes=5), "--backup-minutes: this database has no backup"),
    ],
)
def test_options_that_contradict_each_other_are_refused(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, options: mlflow.Options, line: str
) -> None:
    monkeypatch.setattr(mlflow, "_program", lambda options: ["false"])
    with pytest.raises(ConfigError, match=line):
        mlflow.serve(workspace, "ekiden", options)
    assert [*workspace.root.iterdir()] == []


@pytest.mark.parametrize("verb", ["tensorboard", "mlflow"])
def test_a_workspace_that_is_not_there_is_not_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, [verb, "demo", f"workspace={tmp_path}/typo"])
    assert isinstance(done.exception, ConfigError)
    assert (
        str(done.exception) == f"{tmp_path}/typo: no such workspace yet; the first stage makes it"
    )
    (tmp_path / "work" / "runs").mkdir(parents=True)
    done = CliRunner().invoke(app, [verb, "work", "name=x"])
    assert str(done.exception) == "work: a workspace has no keys to override; leave them out"
    assert [path.name for path in tmp_path.iterdir()] == ["work"]


def put(file: Path, value: int) -> None:
    with contextlib.closing(sqlite3.connect(file)) as opened, opened:
        opened.execute("CREATE TABLE IF NOT EXISTS runs (loss)")
        opened.execute("INSERT INTO runs VALUES (?)", (value,))


def values(file: Path) -> list[int]:
    with contextlib.closing(sqlite3.connect(file)) as opened:
        return [value for (value,) in opened.execute("SELECT loss FROM runs")]


def test_a_database_is_restored_on_another_disk_as_it_was_backed_up(tmp_path: Path) -> None:
    backup = tmp_path / "work" / "mlflow.db"
    here, there = Copy(tmp_path / "here.db", backup), Copy(tmp_path / "there.db", backup)
    assert here.restore() == "new"
    here.file.touch(0o600)
    put(here.file, 1)
    assert here.back_up()
    assert not here.back_up()  # nothing has changed
    put(here.file, 2)
    assert here.back_up()
    put(there.file, 9)  # what an earlier server has left
    assert there.restore().startswith("restored from a backup that is")
    assert values(there.file) == [1, 2]
    assert [path.stat().st_mode & 0o777 for path in (backup, there.file)] == [0o600, 0o600]
    assert [path.name for path in backup.parent.iterdir()] == ["mlflow.db"]


def test_a_local_file_is_removed_after_its_last_backup_and_kept_if_that_fails(
    tmp_path: Path, workspace: Workspace
) -> None:
    copy = Copy(tmp_path / "here.db", workspace.root / "mlflow.db")
    put(copy.file, 1)
    chosen = database.Database("", "", copy.file, (copy,))
    copy.backup.mkdir()  # in the way
    database.leave(chosen)
    assert values(copy.file) == [1]
    copy.backup.rmdir()
    database.leave(chosen)
    assert values(copy.backup) == [1]
    assert not copy.file.exists()


def test_the_first_database_is_a_copy_of_the_one_that_the_workspace_has(tmp_path: Path) -> None:
    first = tmp_path / "mlflow.db"
    put(first, 1)
    copy = Copy(tmp_path / "here.db", tmp_path / "work" / "mlflow.db", first)
    assert copy.restore() == f"a copy of {first}"
    put(copy.file, 2)
    assert (values(copy.file), values(first)) == ([1, 2], [1])


def test_a_damaged_backup_is_not_restored_and_not_overwritten(tmp_path: Path) -> None:
    copy = Copy(tmp_path / "here.db", tmp_path / "mlflow.db")
    copy.backup.write_bytes(b"no database" * 1000)
    with pytest.raises(InputError, match=r"damaged .*; move it away"):
        copy.restore()


def test_a_second_server_of_this_host_is_refused_and_a_dead_one_succeeded(
    workspace: Workspace, tmp_path: Path
) -> None:
    files, file = workspace.mlflow_server, tmp_path / "mlflow.db"
    with claim.hold(files, file) as own:
        own.set_port(5001)
        with (
            pytest.raises(RunError, match=f"port 5001 of {socket.gethostname()}, seen just now"),
            claim.hold(files, file),
        ):
            pass
        own.renew()
    assert not files.record.exists()
    claim.Claim(files, file)
    write_json(files.record, read_json(files.record) | {"begun": "1"})  # its number has another
    file.touch()
    assert claim.was_killed_here(files, file)
    with claim.hold(files, file) as own:
        files.record.unlink()  # by somebody who tidied up
        own.renew()
        assert files.record.exists()


def test_a_server_of_another_host_is_obeyed_until_it_is_silent_for_five_minutes(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files, file = workspace.mlflow_server, tmp_path / "mlflow.db"
    other = claim.Claim(files, file)
    write_json(files.record, read_json(files.record) | {"host": "mdx9", "job": "12"})
    now = files.record.stat().st_mtime
    os.utime(files.record, (now - 240, now - 240))
    with pytest.raises(RunError, match="mdx9, job 12, seen 4 min ago"), claim.hold(files, file):
        pass
    assert not claim.was_killed_here(files, file)
    os.utime(files.record, (now - 301, now - 301))
    with claim.hold(files, file):
        with pytest.raises(RunError, match="another server has taken over"):
            other.renew()
        other.release()
        assert files.record.exists()
    claim.Claim(files, file)
    write_json(files.record, read_json(files.record) | {"host": "mdx9", "job": "12"})
    monkeypatch.setenv("SLURM_JOB_ID", "12")
    with claim.hold(files, file) as requeued:  # the same job, on another node
        assert requeued.is_own()


def test_the_tunnel_leads_through_the_login_node_to_the_address_of_the_server() -> None:
    me = getpass.getuser()

    def command(environ: dict[str, str], host: str = tunnel.LOOPBACK) -> str:
        return tunnel.lines("MLflow", 5000, "/#/x", None, host, environ)[1].partition("type:  ")[2]

    job = {"SLURM_JOB_ID": "7", "SLURMD_NODENAME": "mdx1", "SLURM_SUBMIT_HOST": "login1"}
    first, _, last = tunnel.lines("MLflow", 5000, "/#/x", environ=job)
    assert first == "MLflow: port 5000 of mdx1, job 7"
    assert last.endswith("  http://localhost:5000/#/x")
    assert command(job) == f"ssh -N -L 5000:localhost:5000 -J {me}@login1 {me}@mdx1"
    assert command(job, "mdx1-ib0") == f"ssh -N -L 5000:mdx1-ib0:5000 -J {me}@login1 {me}@mdx1"
    gate = command(job | {tunnel.LOGIN: "gate.example.org"})
    assert gate == f"ssh -N -L 5000:localhost:5000 -J {me}@gate.example.org {me}@mdx1"
    assert command({}) == f"ssh -N -L 5000:localhost:5000 {me}@{socket.gethostname()}"


def test_a_port_in_use_is_passed_over_or_if_you_named_it_refused() -> None:
    with socket.socket() as other:
        other.bind((tunnel.LOOPBACK, 0))
        other.listen()
        used = other.getsockname()[1]
        with server.free_port(None, used) as port:
            assert port > used
        with (
            pytest.raises(ConfigError, match=f"--port {used}: taken on 127.0.0.1"),
            server.free_port(used, 5000),
        ):
            pass


@pytest.mark.parametrize("host", ["192.0.2.1", "no such host"])  # RFC 5737
def test_an_address_of_another_machine_is_refused(host: str) -> None:
    with pytest.raises(ConfigError, match="no address of"), server.free_port(None, 5000, host):
        pass


def test_a_server_that_starts_again_has_its_port_again() -> None:
    with socket.create_server((tunnel.LOOPBACK, 0)) as first:
        port = first.getsockname()[1]
        with socket.create_connection((tunnel.LOOPBACK, port)):
            first.accept()[0].close()  # the kernel remembers the connection for a minute
    with server.free_port(None, port) as again:
        assert again == port


def test_a_port_is_held_for_a_server_that_does_not_listen_yet() -> None:
    with server.free_port(None, 45000) as first, server.free_port(None, first) as second:
        assert second > first
        with socket.create_server((tunnel.LOOPBACK, first)) as listening:  # as servers do
            assert listening.getsockname()[1] == first


@pytest.fixture
def credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of MLflow's credentials, in a home of the test's own."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
        monkeypatch.delenv(name, raising=False)
    file = tmp_path / ".mlflow" / "credentials"
    file.parent.mkdir()
    text = (
        "[mlflow]\nmlflow_tracking_username = me\nmlflow_tracking_password = 100% correct horse\n"
    )
    file.write_text(text, encoding="utf-8")
    file.chmod(0o600)
    return file


def test_user_and_password_are_those_of_mlflows_clients(
    credentials: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert passwords.read() == passwords.Login("me", "100% correct horse")
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "you")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "battery staple")
    assert passwords.read() == passwords.Login("you", "battery staple")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "short")
    with pytest.raises(ConfigError, match="needs 12 characters"):
        passwords.read()


def test_a_password_that_others_may_read_or_that_is_missing_is_refused(credentials: Path) -> None:
    credentials.chmod(0o644)
    with pytest.raises(ConfigError, match="type chmod 600"):
        passwords.read()
    credentials.unlink()
    with pytest.raises(ConfigError, match=r"no user and password; write into .*credentials"):
        passwords.read()


def test_tensorboard_is_given_a_link_to_each_run_that_has_event_files(
    workspace: Workspace, tmp_path: Path
) -> None:
    folder = tmp_path / "links"
    folder.mkdir()
    (workspace.root / "runs" / "empty").mkdir(parents=True)
    for name in ("a", "b"):
        draw(workspace.run(name), 2)
    tensorboard.link(workspace, folder)
    assert {path.name: path.resolve() for path in folder.iterdir()} == {
        name: workspace.run(name).tensorboard for name in ("a", "b")
    }
    for path in workspace.run("a").tensorboard.iterdir():
        path.unlink()
    workspace.run("a").tensorboard.rmdir()
    draw(workspace.run("c"), 2)
    tensorboard.link(workspace, folder)
    assert {path.name for path in folder.iterdir()} == {"b", "c"}
