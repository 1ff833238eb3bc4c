"""What near-duplicates are found by: the units of a text, clusters of pairs, the document that stays."""

from __future__ import annotations

import random
import re
import sys
import unicodedata
from itertools import pairwise

import numpy as np
import pytest

from kit.corpus.dedup import ngrams, pairs

SIMPLE = {
    "吾輩は、1905年の猫。": "吾 輩 は 0 年 の 猫",
    "１２３.５ と 1,000円": "0 と 0 円",
    "「Café」\t\n ＴＥＡ": "c a f e ｔ ｅ ａ",
    "ガッコウ": "カ ッ コ ウ",
    "か\u3099": "か",
    "𠮷野家・松屋": "𠮷 野 家 ・ 松 屋",
    "": "",
    "。、 \u3000": "",
}


@pytest.mark.parametrize("text", SIMPLE)
def test_characters_are_those_that_tell_texts_apart(text: str) -> None:
    assert ngrams.characters(text).replace(" ", "") == SIMPLE[text].replace(" ", "")
    assert ngrams.characters(text) == " ".join(SIMPLE[text].replace(" ", ""))


def test_a_long_text_gives_the_characters_of_its_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "吾輩は12.\n5匹のΑΣ\n\u3099か\n\n。\n名前は"
    whole = ngrams.characters(text)
    for size in range(1, len(text)):
        monkeypatch.setattr(ngrams, "_PART", size)
        assert ngrams.characters(text) == whole == "吾 輩 は 0 0 匹 の α ς か 名 前 は"


def test_all_of_unicode_is_simplified_by_the_rules() -> None:
    letters = "".join(
        letter
        for letter in map(chr, range(0, sys.maxunicode + 1, 7))
        if not "\ud800" <= letter <= "\udfff"
    )
    lowered = re.sub(r"\d+(?:[.,،٫⎖⎗⎘]\d+)?", "0", letters.lower())
    spaced = "".join(" " if c.isspace() or c in ngrams._PUNCTUATION else c for c in lowered)
    assert ngrams.simplified(letters) == spaced
    bare = [c for c in unicodedata.normalize("NFD", spaced) if unicodedata.category(c) != "Mn"]
    assert ngrams.unmarked(spaced) == "".join(bare)


def components(edges: list[tuple[int, int]]) -> dict[int, int]:
    """The smallest document that each one is connected with, by following edges one by one."""
    lead = {document: document for edge in edges for document in edge}
    while True:
        before = dict(lead)
        for a, b in edges:
            lead[a] = lead[b] = min(lead[a], lead[b])
        if lead == before:
            return lead


@pytest.mark.parametrize("documents", [2, 30, 200, 1000])
def test_clusters_are_the_connected_components(documents: int) -> None:
    drawn = random.Random(documents)
    keys = drawn.sample(range(1 << 50), documents)
    edges = [(drawn.choice(keys), drawn.choice(keys)) for _ in range(documents // 2)]
    found = pairs.clusters(np.array(edges, "<u8"))
    assert dict(found.tolist()) == components(edges)
    assert found[:, 0].tolist() == sorted({document for edge in edges for document in edge})


def test_a_long_chain_in_any_order_is_one_cluster() -> None:
    chain = random.Random(1).sample(range(5000), 5000)
    found = pairs.clusters(np.array(list(pairwise(chain)), "<u8"))
    assert found.tolist() == [[document, 0] for document in range(5000)]


def test_clusters_of_parts_of_the_pairs_are_clusters_of_all() -> None:
    drawn = np.random.default_rng(4)
    edges = drawn.integers(0, 500, (400, 2)).astype("<u8")
    parts = np.zeros((0, 2), "<u8")
    for first in range(0, 400, 37):
        parts = pairs.clusters(np.concatenate([parts, edges[first : first + 37]]))
    assert parts.tolist() == pairs.clusters(edges).tolist()
    assert len(pairs.clusters(np.zeros((0, 2), "<u8"))) == 0


def stays(edges: list[tuple[int, int]], lengths: list[int]) -> dict[int, int]:
    """Each document left out, with the one that stays: the longest of the cluster, then the first."""
    members: dict[int, list[int]] = {}
    for document, lead in components(edges).items():
        members.setdefault(lead, []).append(document)
    best = {lead: min(row, key=lambda d: (-lengths[d], d)) for lead, row in members.items()}
    return {d: best[lead] for lead, row in members.items() for d in row if d != best[lead]}


@pytest.mark.parametrize("seed", range(12))
def test_neither_the_order_of_documents_nor_that_of_pairs_nor_their_parts_decide(seed: int) -> None:
    drawn = random.Random(seed)
    size = drawn.randint(2, 40)
    edges = [(drawn.randrange(size), drawn.randrange(size)) for _ in range(drawn.randint(1, size))]
    lengths = [drawn.randint(1, 3) for _ in range(size)]
    for _ in range(5):
        number = drawn.sample(range(size), size)  # of each document in another order of the corpus
        moved = [drawn.sample([number[a], number[b]], 2) for a, b in edges]
        drawn.shuffle(moved)
        of_moved = [lengths[number.index(document)] for document in range(size)]
        found = np.zeros((0, 2), "<u8")
        while moved:  # a part at a time, as tasks leave them
            cut = drawn.randint(1, len(moved))
            found = pairs.clusters(np.concatenate([found, np.array(moved[:cut], "<u8")]))
            moved = moved[cut:]
        rows = pairs.left_out(found, np.array(of_moved, np.uint32)[found[:, 0]])
        renumbered = [(number[a], number[b]) for a, b in edges]
        assert dict(rows.tolist()) == stays(renumbered, of_moved)


def test_the_longest_stays_then_the_first() -> None:
    found = np.array([[1, 1], [4, 1], [6, 1], [7, 7], [9, 7]], "<u8")
    lengths = np.array([10, 30, 30, 5, 5], np.uint32)
    assert pairs.left_out(found, lengths).tolist() == [[1, 4], [6, 4], [9, 7]]


def test_equal_hashes_are_paired_with_their_first_document() -> None:
    hashes = np.array([3, 3, 3, 8, 9, 9, 2**64 - 1], "<u8")
    first, found = pairs.repeated(hashes, np.array([5, 6, 9, 1, 0, 7, 2], "<u8"))
    assert first.tolist() == [0, 3, 4, 6]
    assert found.tolist() == [[5, 6], [5, 9], [0, 7]]
