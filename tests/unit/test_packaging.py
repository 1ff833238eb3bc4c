"""Versions and installation: what pyproject.toml, lock file, Makefile, images and CI say agrees."""

from __future__ import annotations

import re
import tomllib
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from tests.conftest import ROOT

CONTAINER = ROOT / "sbatch" / "container"
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
TRIXIE = "3.13"  # the Python of Debian 13


def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def locked() -> dict[str, Version]:
    """The versions of requirements.lock by name."""
    pairs = (line.split("==") for line in text_of("requirements.lock").splitlines() if "==" in line)
    return {re.sub("[-_.]+", "-", name.lower()): Version(version) for name, version in pairs}


def pythons() -> list[str]:
    """The versions of Python in the classifiers."""
    found = (re.fullmatch(r"Programming Language :: Python :: (\d\.\d+)", one)
             for one in PYPROJECT["classifiers"])  # fmt: skip
    return [match[1] for match in found if match]


def installing(script: str) -> tuple[str, ...]:
    """The packages that a script installs before the lock file, and the variables around the rest."""
    (first,) = re.findall(r"-c \S*(?:lock|\"\$lock\") (torch .*?)\)?$", script, re.MULTILINE)
    (variables,) = set(re.findall(r"(DS_\w+=\w+ DS_\w+=\w+) .*--no-build-isolation -r", script))
    return first, variables


@pytest.mark.parametrize("requirement", PYPROJECT["dependencies"])
def test_the_lock_file_has_every_dependency_in_a_version_that_is_allowed(requirement: str) -> None:
    needed = Requirement(requirement)
    assert locked()[needed.name.lower().replace("_", "-")] in needed.specifier


def test_the_images_install_as_the_makefile_does() -> None:
    own = installing((CONTAINER / "install.sh").read_text(encoding="utf-8"))
    assert own == installing(text_of("Makefile"))
    assert own[0].split()[0] == "torch"


@pytest.mark.parametrize("name", ["Dockerfile", "ekiden.def", "install.sh"])
def test_the_images_pin_nothing_beside_the_lock_file(name: str) -> None:
    text = (CONTAINER / name).read_text(encoding="utf-8")
    assert re.findall(r"==|\b\d+\.\d+\.\d+", text) == []
    if name != "install.sh":
        assert "requirements.lock" in text
        assert re.findall(r"debian:\S+", text) == ["debian:trixie-slim"]


def test_the_files_of_the_images_are_there() -> None:
    copied = re.findall(r"^COPY (.+) \S+$", text_of("sbatch/container/Dockerfile"), re.MULTILINE)
    definition = text_of("sbatch/container/ekiden.def")
    section = definition.partition("%files\n")[2].partition("\n\n")[0]
    sources = [line.split()[0] for line in section.splitlines()]
    assert sources == copied[0].split()
    for source in sources:
        assert (ROOT / source).is_file(), source


def test_both_images_run_the_same_script_with_the_same_arguments() -> None:
    line = re.compile(r"sh /opt/build/install\.sh (\S+)")
    (docker,) = line.findall(text_of("sbatch/container/Dockerfile"))
    (apptainer,) = line.findall(text_of("sbatch/container/ekiden.def"))
    assert docker == apptainer
    for name in ("Dockerfile", "ekiden.def"):
        assert "PATH=/opt/ekiden/bin:$PATH" in text_of(f"sbatch/container/{name}")


def test_the_pythons_of_the_classifiers_are_those_that_are_tested() -> None:
    (others,) = re.findall(r"^OTHERS := (.+)$", text_of("Makefile"), re.MULTILINE)
    workflow: dict[str, Any] = yaml.safe_load(text_of(".github/workflows/ci.yml"))["jobs"]
    matrix = workflow["pythons"]["strategy"]["matrix"]["python"]
    first = re.findall(r"image: python:(\d\.\d+)", text_of(".github/workflows/ci.yml"))
    assert sorted(others.split()) == sorted(matrix)
    assert sorted([*first, *matrix]) == sorted(pythons())
    assert TRIXIE in pythons()
    assert all(version in SpecifierSet(PYPROJECT["requires-python"]) for version in pythons())
