"""The packages of a run, and the import of large ones."""

from __future__ import annotations

import gc
import importlib.metadata

import pytest

from kit.run.environment import importing, installed_packages


def test_every_installed_package_is_named_with_its_version_but_the_kit() -> None:
    found = installed_packages()
    assert found == sorted(set(found))
    assert f"pytest=={importlib.metadata.version('pytest')}" in found
    names = {line.partition("==")[0] for line in found}
    every = {one.name.lower() for one in importlib.metadata.distributions()}
    assert names == every - {"ekiden"}


@pytest.mark.parametrize("error", [None, ImportError("no such library")])
def test_no_garbage_is_looked_for_in_an_import_even_if_it_fails(
    error: ImportError | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    frozen: list[bool] = []
    monkeypatch.setattr(gc, "freeze", lambda: frozen.append(gc.isenabled()))
    try:
        with importing():
            assert not gc.isenabled()
            if error:
                raise error
    except ImportError:
        assert error
    assert frozen == [False]
    assert gc.isenabled()
