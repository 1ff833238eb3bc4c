"""Documents left out by URL, id or hash: those of `corpus.remove`, and those with a URL of a list.

They are found before the text is looked at, and counted under `REMOVED` and `urls.NAME`.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from kit.corpus import identity
from kit.data import removal, url_lists

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from kit.config.recipe import Corpus, Recipe

REMOVED = "removed"  # the step of `corpus.remove`
_NAMED = 20  # lines without a document to print


class Exclusion:
    """The documents of one source to leave out. Raises InputError for a file that cannot be read."""

    def __init__(self, corpus: Corpus, source: str) -> None:
        self._source = source
        self._removal = removal.read(corpus)
        self._urls = {
            f"urls.{name}": url_lists.read(name, rule.file)
            for name, rule in corpus.filters.urls.items()
        }
        self._needs = bool(self._removal.lines or self._urls)
        self._keys = identity.keys(corpus.sources[source])
        self._counts: Counter[str] = Counter()
        self._found: set[str] = set()  # lines of the removal

    @property
    def keys(self) -> identity.Keys | None:
        """The keys to read documents with; None if only their text counts."""
        return self._keys if self._needs else None

    def reason(self, lines: Sequence[str], key: int) -> str | None:
        """The step that leaves a document out, given its lines as read and their hash."""
        if not self._needs:
            return None
        names = identity.of(lines)
        self._counts.update(documents=1, url=names.url is not None, id=names.id is not None)
        if matching := self._removal.matching(self._source, names.url, names.id, key):
            self._found.update(matching)
            return REMOVED
        if names.url is None:
            return None
        url = names.url
        return next((name for name, listed in self._urls.items() if listed.holds(url)), None)

    def facts(self) -> dict[str, Any]:
        """Its record in the manifest of a shard; empty if only the text of documents counts."""
        if not self._needs:
            return {}
        identified = {key: self._counts[key] for key in ("documents", "url", "id")}
        return {"identified": {self._source: identified}, "removed": sorted(self._found)}


def summary(recipe: Recipe, manifests: Sequence[Mapping[str, Any]]) -> str:
    """A section of the report: lines of `corpus.remove` without a document, documents with URL and id."""
    if not (recipe.corpus.remove or recipe.corpus.filters.urls):
        return ""
    lines = [*_identified(manifests), *_removed(removal.read(recipe.corpus), manifests)]
    return "".join(f"\n{line}\n" for line in lines)


def _identified(manifests: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    sources: dict[str, Counter[str]] = {}
    for shard in manifests:
        for source, counted in shard["identified"].items():
            sources.setdefault(source, Counter()).update(counted)
    for source, total in sorted(sources.items()):
        yield (
            f"Documents of {source}: {total['documents']:,}, with a URL {total['url']:,}, "
            f"with an id {total['id']:,}."
        )


def _removed(given: removal.Removal, manifests: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    if not given.lines:
        return
    found = {line for shard in manifests for line in shard["removed"]}
    missing = [line for line in given.lines if line not in found]
    more = f" and {len(missing) - _NAMED:,} more" if len(missing) > _NAMED else ""
    named = f": {', '.join(missing[:_NAMED])}{more}" if missing else ""
    yield (
        f"Lines of corpus.remove: {len(given.lines):,}, of which {len(missing):,} match no document{named}."
    )
