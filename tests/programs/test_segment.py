"""Which segmenter there is: a program of that name is asked for its version."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kit.corpus import segment
from kit.errors import ClusterError, ConfigError
from tests import jumanpp
from tests.unit.test_segment import words

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is the PATH's first."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return folder


def program(folder: Path, lines: Sequence[str]) -> None:
    (folder / "jumanpp").write_text("\n".join(["#!/bin/sh", *lines, ""]))
    (folder / "jumanpp").chmod(0o755)


def test_auto_means_jumanpp_where_it_is_and_else_mecab(path: Path) -> None:
    assert segment.resolve("auto") == segment.resolve("mecab")
    with pytest.raises(ConfigError, match="jumanpp is not on the PATH"):
        segment.resolve("jumanpp")
    jumanpp.install(path)
    assert segment.resolve("auto") == segment.resolve("jumanpp") == ("jumanpp", jumanpp.VERSION)
    assert segment.resolve("mecab")[1].startswith("fugashi ")


def test_a_machine_with_another_version_is_refused(path: Path) -> None:
    jumanpp.install(path)
    with segment.open("jumanpp", jumanpp.VERSION, 1) as found:
        assert words(found, "東京に行く") == ["東京 に 行 く"]
    with pytest.raises(ClusterError, match=r"resolved to jumanpp 2\.0\.1"):
        segment.open("jumanpp", "2.0.1", 1)
    with pytest.raises(ClusterError, match=r" has mecab .* mecab fugashi 9"):
        segment.open("mecab", "fugashi 9", 1)


@pytest.mark.parametrize(
    ("lines", "told"),
    [(["exec sleep 60"], "timed out"), (["exit 3"], r"no output \(exit code 3\)")],
)
def test_a_jumanpp_that_does_not_tell_its_version_is_refused(
    path: Path, monkeypatch: pytest.MonkeyPatch, lines: list[str], told: str
) -> None:
    monkeypatch.setattr(segment, "_VERSION_TIMEOUT", 0.2)
    program(path, lines)
    with pytest.raises(ClusterError, match=told):
        segment.resolve("jumanpp")
