"""The licence of a release: an identifier of the Hub, or another one with its name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kit.config.licenses import HUB, spdx_of, url_of
from kit.config.recipe import Recipe, Release
from kit.config.section import RECORDED
from kit.errors import ConfigError

if TYPE_CHECKING:
    from tests.conftest import Workdir


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("Apache-2.0", "did you mean apache-2.0? "),
        ("CC BY-SA 4.0", "did you mean cc-by-sa-4.0? "),
        ("in-house", "write other, and its name as release.license_name"),
    ],
)
def test_an_unknown_licence_is_refused(workdir: Workdir, given: str, said: str) -> None:
    with pytest.raises(ConfigError) as error:
        workdir.recipe(f"release.license={given}")
    assert said in str(error.value)
    assert "release.license" in str(error.value)


def test_a_run_that_recorded_another_licence_is_still_read() -> None:
    assert Release.model_validate({"license": "mine"}, context=RECORDED).license == "mine"


def test_name_and_link_are_for_a_licence_that_the_hub_does_not_list(workdir: Workdir) -> None:
    own = ("release.license_name=my-license-1.0", "release.license_link=LICENSE")
    assert workdir.recipe(*own).release.license == "other"
    for key in own:
        with pytest.raises(ConfigError, match=r"has no effect with release\.license=mit"):
            workdir.recipe("release.license=mit", key)


def test_authors_have_no_effect_beside_a_citation(workdir: Workdir) -> None:
    with pytest.raises(ConfigError, match=r"has no effect together with release\.citation"):
        workdir.recipe("release.authors=[A]", "release.citation=@misc{a}")


def test_a_licence_is_found_by_either_identifier_in_any_case() -> None:
    assert spdx_of("cc-by-sa-4.0") == spdx_of("CC-BY-SA-4.0") == "CC-BY-SA-4.0"
    assert url_of("MIT") == "https://spdx.org/licenses/MIT.html"
    assert spdx_of("Common Crawl terms of use") is url_of("bsd") is None
    assert {"apache-2.0", "mit", "cc-by-sa-4.0", "other", "unknown"} <= {*HUB}


def test_the_default_is_valid() -> None:
    assert Release().license in HUB
    assert Recipe.model_fields["release"].default == Release()
