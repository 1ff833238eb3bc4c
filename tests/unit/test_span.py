"""The part of a chain from one stage to another."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from kit.errors import ConfigError
from kit.relay import span

if TYPE_CHECKING:
    from tests.conftest import Workdir


def names(workdir: Workdir, first: str | None = None, last: str | None = None) -> list[str]:
    return [stage.name for stage in span.of(workdir.recipe(), first, last)]


def test_without_a_name_it_is_the_whole_chain(workdir: Workdir) -> None:
    assert names(workdir)[0] == "download"
    assert names(workdir)[-1] == "generate"


@pytest.mark.parametrize(
    ("first", "last", "found"),
    [
        ("tokenizer", "tokenize", ["count", "merge", "candidates", "tokenizer", "tokenize"]),
        ("merge", "candidates", ["merge", "candidates"]),
        (None, "preprocess", ["download", "preprocess"]),
        ("train", "train", ["train"]),
        ("export", None, ["export", "generate"]),
    ],
)
def test_a_command_stands_for_all_its_stages(
    workdir: Workdir, first: str | None, last: str | None, found: list[str]
) -> None:
    assert names(workdir, first, last) == found


@pytest.mark.parametrize(
    ("first", "last", "says"),
    [
        ("tokenise", None, "--from tokenise: no such stage; did you mean tokeni"),
        (None, "xyz", "--until xyz: no such stage; available: download, preprocess, "),
        ("train", "tokenize", "--from train --until tokenize: tokenize comes before train"),
        ("fingerprint", None, "--from fingerprint: this recipe has no such stage; available: "),
    ],
)
def test_a_wrong_name_gets_the_list_and_the_nearest(
    workdir: Workdir, first: str | None, last: str | None, says: str
) -> None:
    with pytest.raises(ConfigError, match=re.escape(says)):
        names(workdir, first, last)
