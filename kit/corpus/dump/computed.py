"""Values of templates that follow from their parameters and the date of the revision."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from kit.corpus.dump.countries import NAMES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

Date = tuple[int, int, int]  # year, month, day

# The first year of each era from 1596 on; a year in which the era changes is given by the later one.
_ERAS = (
    (1596, "慶長"), (1615, "元和"), (1624, "寛永"), (1644, "正保"), (1648, "慶安"), (1652, "承応"),
    (1655, "明暦"), (1658, "万治"), (1661, "寛文"), (1673, "延宝"), (1681, "天和"), (1684, "貞享"),
    (1688, "元禄"), (1704, "宝永"), (1711, "正徳"), (1716, "享保"), (1736, "元文"), (1741, "寛保"),
    (1744, "延享"), (1748, "寛延"), (1751, "宝暦"), (1764, "明和"), (1772, "安永"), (1781, "天明"),
    (1789, "寛政"), (1801, "享和"), (1804, "文化"), (1818, "文政"), (1830, "天保"), (1844, "弘化"),
    (1848, "嘉永"), (1854, "安政"), (1860, "万延"), (1861, "文久"), (1864, "元治"), (1865, "慶応"),
    (1868, "明治"), (1912, "大正"), (1926, "昭和"), (1989, "平成"), (2019, "令和"),
)  # fmt: skip
_ERA_NAMES = {name: name for _, name in _ERAS} | {
    "M": "明治", "T": "大正", "S": "昭和", "H": "平成", "R": "令和", "明": "明治", "大": "大正",
    "昭": "昭和", "平": "平成", "令": "令和",
}  # fmt: skip
_NUMBER = re.compile(r"\d{1,4}")


def value(name: str, parameters: Mapping[str, str], revised: Date | None) -> str | None:
    """The value that a pattern names; None if the parameters do not give it."""
    unnamed = [parameters.get(str(number), "") for number in range(1, 7)]
    return _VALUES[name](unnamed, revised)


def _era(unnamed: Sequence[str], _: Date | None) -> str | None:
    """A year of both calendars: 1920, or 大正 and 9, gives 1920年（大正9年）; no era before 1596."""
    first, second = unnamed[0], unnamed[1]
    if era := _ERA_NAMES.get(first.upper()):
        if not _NUMBER.fullmatch(second) or int(second) < 1:
            return None
        begin = next(year for year, name in _ERAS if name == era)
        return f"{begin + int(second) - 1}年（{_in_era(era, int(second))}）"
    if not _NUMBER.fullmatch(first):
        return None
    year = int(first)
    begin, era = next(((b, name) for b, name in reversed(_ERAS) if b <= year), (0, ""))
    return f"{year}年（{_in_era(era, year - begin + 1)}）" if era else f"{year}年"


def _in_era(era: str, year: int) -> str:
    return f"{era}{'元' if year == 1 else year}年"


def _years(unnamed: Sequence[str], revised: Date | None) -> str | None:
    """Full years between two dates, or from one to the revision."""
    begin, end = _date_in(unnamed[:3]), _date_in(unnamed[3:]) or revised
    if begin is None or end is None:
        return None
    years = end[0] - begin[0] - (end[1:] < begin[1:])
    return str(years) if years >= 0 else None


def _age(unnamed: Sequence[str], revised: Date | None) -> str | None:
    years = _years(unnamed, revised)
    return years and f"{years}歳"


def _died(unnamed: Sequence[str], revised: Date | None) -> str | None:
    """The day of a death and the age: of the birth first, then of the death."""
    day, age = _day(unnamed[3:]), _age(unnamed, revised)
    return f"{day}（{age}没）" if day and age else None


def _born(unnamed: Sequence[str], revised: Date | None) -> str | None:
    day, age = _day(unnamed[:3]), _age([*unnamed[:3], "", "", ""], revised)
    return f"{day}（{age}）" if day and age else None


def _date(unnamed: Sequence[str], _: Date | None) -> str | None:
    return _day(unnamed[:3])


def _country(unnamed: Sequence[str], _: Date | None) -> str | None:
    return NAMES.get(unnamed[0], unnamed[0]) or None


def _day(parts: Sequence[str]) -> str | None:
    date = _date_in(parts)
    return f"{date[0]}年{date[1]}月{date[2]}日" if date else None


def _date_in(parts: Sequence[str]) -> Date | None:
    """The date that begins with a year; a missing month or day is the first."""
    if not parts or not _NUMBER.fullmatch(parts[0]):
        return None
    year, month, day = (int(part) if _NUMBER.fullmatch(part) else 1 for part in parts[:3])
    return year, month, day


_VALUES: dict[str, Callable[[list[str], Date | None], str | None]] = {
    "era": _era,
    "years": _years,
    "age": _age,
    "died": _died,
    "born": _born,
    "date": _date,
    "country": _country,
}
