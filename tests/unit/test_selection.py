"""The choice among candidates: by a rule, or by hand."""

from __future__ import annotations

import pytest

from kit.config.tokenizer import Choice, Tokenizer
from kit.tokenizer.selection import select_by_rule

SIZES = {"small": 100, "middle": 200, "large": 300}


def measured(**values: tuple[float, ...]) -> dict[str, dict[str, float]]:
    """Measures of the three, by name of the measure; all are exact unless that is told."""
    rows = {"exact": (1.0, 1.0, 1.0)} | values
    return {
        name: {key: row[number] for key, row in rows.items()} for number, name in enumerate(SIZES)
    }


@pytest.mark.parametrize(
    ("measure", "best"),
    [
        ("bits_per_byte", "middle"),
        ("fertility", "middle"),
        ("characters_per_token", "large"),
        ("vocabulary_used", "large"),
        ("raw_share", "large"),
    ],
)
def test_a_rule_knows_which_way_is_better(measure: str, best: str) -> None:
    name, reason = select_by_rule(
        Choice.model_validate({"measure": measure}), SIZES, measured(**{measure: (2.0, 1.0, 3.0)})
    )
    assert name == best
    assert reason.startswith(f"{measure} ")


@pytest.mark.parametrize(
    ("margin", "chosen"), [(0.0, "large"), (0.04, "large"), (0.06, "middle"), (0.5, "small")]
)
def test_within_the_margin_the_smallest_vocabulary_is_taken(margin: float, chosen: str) -> None:
    for measure, values in (
        ("bits_per_byte", (1.3, 1.05, 1.0)),
        ("vocabulary_used", (0.7, 0.95, 1)),
    ):
        rule = Choice.model_validate({"measure": measure, "margin": margin})
        name, reason = select_by_rule(rule, SIZES, measured(**{measure: values}))
        assert name == chosen
        assert ("smallest vocabulary within" in reason) == (chosen != "large")


def test_a_candidate_that_loses_text_is_not_chosen_while_another_does_not() -> None:
    found = measured(bits_per_byte=(1.0, 2.0, 3.0), exact=(0.9, 1.0, 1.0))
    assert select_by_rule(Choice(), SIZES, found) == (
        "middle", "bits_per_byte 2.0000, the best of 2 (exact candidates only)",
    )  # fmt: skip
    assert select_by_rule(Choice(exact=False), SIZES, found)[0] == "small"
    found = measured(bits_per_byte=(1.0, 2.0, 3.0), exact=(0.9, 0.8, 0.7))
    assert select_by_rule(Choice(), SIZES, found)[0] == "small"


def test_of_equals_the_smaller_is_chosen_and_then_the_first() -> None:
    found = measured(bits_per_byte=(1.0, 1.0, 1.0))
    assert select_by_rule(Choice(), SIZES, found)[0] == "small"
    assert select_by_rule(Choice(), dict.fromkeys(SIZES, 100), found)[0] == "small"


def test_a_candidate_is_found_by_its_name() -> None:
    section = Tokenizer(vocab_size=1000, candidates=[{"vocab_size": 900}, {"algorithm": "unigram"}])
    for vocabulary in section.specs():
        assert section.spec(vocabulary.name) == vocabulary
    assert section.spec("unigram-1000-8000-lossless").vocab_size == 1000


@pytest.mark.parametrize(("spaces", "least"), [("article", 4), ("lossless", 260)])
def test_a_vocabulary_has_room_for_one_character_at_the_least(spaces: str, least: int) -> None:
    assert Tokenizer(spaces=spaces, vocab_size=least).vocab_size == least
    with pytest.raises(ValueError, match=r"needs at least|greater than 3"):
        Tokenizer(spaces=spaces, vocab_size=least - 1)
