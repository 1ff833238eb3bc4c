"""Times of spans within one another, which add up."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kit.training.spans import Span, exclusive, outermost

SPANS = st.lists(
    st.tuples(st.integers(0, 20), st.integers(0, 9), st.sampled_from("abc")).map(
        lambda one: Span(one[0], one[0] + one[1], one[2])
    ),
    max_size=8,
)


def test_what_lies_within_a_part_is_not_counted_in_it() -> None:
    backward, first, second = Span(0, 10, "b"), Span(0, 3, "r"), Span(5, 9, "r")
    assert exclusive([first, backward, second]) == {"r": 7, "b": 3}
    assert exclusive([backward, Span(6, 9, "r"), second]) == {"b": 6, "r": 4}
    assert exclusive([]) == {}


def test_calls_within_a_call_of_the_same_part_are_not_counted() -> None:
    assert outermost([Span(0, 10, "r"), Span(0, 3, "r"), Span(5, 9, "r"), Span(10, 11, "r")]) == 2


@given(SPANS)
def test_the_times_add_up_to_the_time_that_any_span_covers(spans: list[Span]) -> None:
    moments = {at for span in spans for at in range(int(span.begin), int(span.end))}
    assert sum(exclusive(spans).values()) == len(moments)
