"""MeCab's search for the words of a text, as code for numba; `lattice.py` calls it.

It follows MeCab 0.996 (tokenizer.cpp, viterbi.cpp) to the order in which words are compared, which decides
between paths of equal cost. It is quicker for three reasons. Words are looked up for some thousand
characters at once, so that the processor waits for many parts of the dictionary at the same time. Of the
words that end at one place and have the same right side only the cheapest is followed. Words that begin at
one place with the same left side are connected once.

All arguments are pointers and numbers, and nothing is allocated: such code runs without numba. Records lie
in arrays of numbers; the names in capitals are the fields of one, and its size.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import types

from kit.store.machine_code import part

Pointer = Any
Number = Any

_BLOCK = 2048  # characters to look up at once: what is found of them stays in the processor's cache
_GROUP = (
    24  # MeCab's max-grouping-size: an unknown word of one kind is at most one character longer
)
_LINE_FEED, _SPACE = 10, 32
_KINDS = 0x3FFFF  # the bits of a character's kinds
_DEAREST = 1 << 30

# A word of the dictionary.
_LEFT, _RIGHT, _COST, _TOKEN = 0, 1, 3, 8
# A match: words of the dictionary, all of the same text. Those that begin at one character are a list, the
# longest first, that ends with 0. WORDS is the number of the first word << 8 | how many there are.
_NEXT, _LENGTH, _WORDS, _MATCH = 0, 1, 2, 3
# A node: a word at its place, with the cost of the best path to its end. Those that end at one character
# are a list, the newest first, that ends with 0. Node 1 is the beginning of the text.
_BEFORE, _BEGIN, _SIDE, _TOTAL, _NODE = 1, 2, 3, 4, 5
# What is known of a side at the place it was marked with.
_MARK_RIGHT, _OPEN_AT, _MARK_LEFT, _BEST, _BEST_NODE, _OF_SIDE = 0, 1, 2, 3, 4, 5
# A node that ends at the current place.
_OPEN_NODE, _OPEN_SIDE, _OPEN_TOTAL, _OPEN = 0, 1, 2, 3

_pointer: Any = types.CPointer
_bytes, _int16, _int32 = _pointer(types.uint8), _pointer(types.int16), _pointer(types.int32)
_uint16, _uint32, _number = _pointer(types.uint16), _pointer(types.uint32), types.int64
SIGNATURE = types.int64(
    _uint32, _number, _uint32, _bytes, _number,
    _int32, _uint16, _int16, _number, _uint32, _uint16, _int32,
    _int32, _int32, _number, _int32, _int32, _int32, _number, _int32, _int32, _int32,
)  # fmt: skip


class _Dictionary(NamedTuple):
    """See dictionary.py."""

    units: Pointer
    tokens: Pointer
    matrix: Pointer
    sides: Number
    kinds: Pointer
    unknown: Pointer
    unknown_words: Pointer


class _Room(NamedTuple):
    """Room to work. Of each character: its first match, the end of its run, the first node before it."""

    first: Pointer
    matches: Pointer
    most_matches: Number
    runs: Pointer
    ending: Pointer
    nodes: Pointer
    most_nodes: Number
    sides: Pointer
    open: Pointer
    unknown_ends: Pointer


def segment(
    codes: Pointer, size: Number, spaced: Pointer, starts: Pointer, most: Number,
    units: Pointer, tokens: Pointer, matrix: Pointer, sides: Number, kinds: Pointer,
    unknown: Pointer, unknown_words: Pointer,
    first: Pointer, matches: Pointer, most_matches: Number, runs: Pointer, ending: Pointer,
    nodes: Pointer, most_nodes: Number, of_sides: Pointer, open_: Pointer, unknown_ends: Pointer,
) -> Number:  # fmt: skip
    """Copy lines of code points to `spaced`, with spaces between their words; returns the new size.

    Each line ends with a line feed. One that MeCab itself has to be asked for is left empty: one with a
    character of no kind, or with more words than there is room for. Returns -1 for a line with more than
    `most` characters. `starts` are zeros, as many as `codes`, in which the beginnings of words are marked.
    """
    words = _Dictionary(units, tokens, matrix, sides, kinds, unknown, unknown_words)
    room = _Room(
        first, matches, most_matches, runs, ending, nodes, most_nodes, of_sides, open_, unknown_ends
    )
    for number in range(sides):
        of_sides[_OF_SIDE * number + _MARK_RIGHT] = -1
        of_sides[_OF_SIDE * number + _MARK_LEFT] = -1
    begin = length = 0
    while begin < size:
        end = min(begin + _BLOCK, size)
        while codes[end - 1] != _LINE_FEED:
            end += 1
        if end - begin > most:
            return -1
        length = _segment_block(codes, begin, end, spaced, length, starts, words, room)
        begin = end
    return length


@part
def _segment_block(
    codes: Pointer, begin: Number, end: Number, spaced: Pointer, length: Number, starts: Pointer,
    words: _Dictionary, room: _Room,
) -> Number:  # fmt: skip
    """Append the lines of a block to `spaced`, which has this length; returns the new one."""
    number = 2 + _look_up(codes, begin, end, words, room)
    for place in range(begin, end):
        kind = _kind(words, codes[place])
        number += (2 + (kind >> 26 & 15)) * (words.unknown_words[kind >> 18 & 0xFF] & 0xFF)
        room.ending[place - begin] = 0
    _find_runs(codes, begin, end, words, room)
    line, odd = begin, False
    for place in range(begin, end):
        if codes[place] != _LINE_FEED:
            odd |= _kind(words, codes[place]) == 0
            continue
        if not odd and number <= room.most_nodes and place > line:
            _search(codes, begin, line, place, starts, words, room)
            for at in range(line, place):
                if starts[at]:
                    spaced[length] = _SPACE
                    length += 1
                spaced[length] = codes[at]
                length += 1
        spaced[length] = _LINE_FEED
        length += 1
        line, odd = place + 1, False
    return length


@part
def _kind(words: _Dictionary, code: Number) -> Number:
    """The kinds of a character, and what its unknown words are like."""
    return np.int64(words.kinds[min(code, 65536)])


@part
def _look_up(codes: Pointer, begin: Number, end: Number, words: _Dictionary, room: _Room) -> Number:
    """Find the matches at all characters; returns how many words they have, very many without room."""
    units, matches = words.units, room.matches
    places, bases = room.runs, room.ending  # of longer matches that are possible
    left = 0
    for place in range(begin, end):
        room.first[place - begin] = 0
        places[left] = place
        base = _after(units, np.int64(units[0]), np.int64(codes[place]))
        bases[left] = base
        left += base > 0
    match, number, length = 1, 0, 1
    while left:
        if match + left > room.most_matches:
            return _DEAREST
        kept = 0
        for at in range(left):
            place, base = places[at], np.int64(bases[at])
            found = -1 - units[2 * base]
            if units[2 * base + 1] == base and found >= 0 and found & 0xFF:
                matches[_MATCH * match + _NEXT] = room.first[place - begin]
                matches[_MATCH * match + _LENGTH] = length
                matches[_MATCH * match + _WORDS] = found
                room.first[place - begin] = match
                number += found & 0xFF
                match += 1
            base = _after(units, base, np.int64(codes[place + length]))
            places[kept] = place
            bases[kept] = base
            kept += base > 0
        left = kept
        length += 1
    return number


@part
def _after(units: Pointer, base: Number, code: Number) -> Number:
    """The base behind a character, whose bytes in UTF-8 lead there; 0 if no word has it next."""
    if code < 0x80:
        return _step(units, base, code)
    if code < 0x800:
        base = _step(units, base, 0xC0 | code >> 6)
    else:
        if code < 0x10000:
            base = _step(units, base, 0xE0 | code >> 12)
        else:
            base = _step(units, base, 0xF0 | code >> 18)
            base = _step(units, base, 0x80 | code >> 12 & 0x3F) if base > 0 else 0
        base = _step(units, base, 0x80 | code >> 6 & 0x3F) if base > 0 else 0
    return _step(units, base, 0x80 | code & 0x3F) if base > 0 else 0


@part
def _step(units: Pointer, base: Number, byte: Number) -> Number:
    place = 2 * (base + byte + 1)
    return np.int64(units[place]) if units[place + 1] == base else 0


@part
def _find_runs(codes: Pointer, begin: Number, end: Number, words: _Dictionary, room: _Room) -> None:
    """For each character the end of its run, in which each is of a kind of the one before it."""
    for place in range(end - 1, begin - 1, -1):
        room.runs[place - begin] = place + 1
        if codes[place] == _LINE_FEED or codes[place + 1] == _LINE_FEED:
            continue
        if _kind(words, codes[place]) & _kind(words, codes[place + 1]) & _KINDS:
            room.runs[place - begin] = room.runs[place + 1 - begin]


@part
def _search(
    codes: Pointer, begin: Number, line: Number, end: Number, starts: Pointer,
    words: _Dictionary, room: _Room,
) -> None:  # fmt: skip
    """Mark the words of one line."""
    nodes, matches = room.nodes, room.matches
    for field in range(_NODE):
        nodes[_NODE + field] = 0
    room.ending[line - begin] = 1
    node = 2
    for place in range(line, end):
        width = _open(room.ending[place - begin], place, room)
        if not width:
            continue
        match = room.first[place - begin]
        kind = _kind(words, codes[place])
        many = 0
        if match == 0 or kind >> 31:
            run = room.runs[place - begin]
            many = _unknown_ends(codes, place, end, match == 0, run, words, room)
        while many:
            many -= 1
            unknown = np.int64(words.unknown_words[kind >> 18 & 0xFF])
            stop = room.unknown_ends[many] - begin
            node = _add(unknown, words.unknown, place, stop, width, node, words, room)
        while match:
            stop = place + matches[_MATCH * match + _LENGTH] - begin
            known = np.int64(matches[_MATCH * match + _WORDS])
            node = _add(known, words.tokens, place, stop, width, node, words, room)
            match = matches[_MATCH * match + _NEXT]
    width = _open(room.ending[end - begin], end, room)
    node = _best(0, width, words, room)[1]
    while node > 1:
        place = nodes[_NODE * node + _BEGIN]
        starts[place] = place > line
        node = nodes[_NODE * node + _BEFORE]


@part
def _open(node: Number, place: Number, room: _Room) -> Number:
    """List the nodes of a place that may be continued; returns how many there are.

    One is left out if a newer one of its side is as cheap; one that an older one undercuts is made dear.
    """
    nodes, sides, opened = room.nodes, room.sides, room.open
    width = 0
    while node:
        right, total = np.int64(nodes[_NODE * node + _SIDE]), nodes[_NODE * node + _TOTAL]
        known = sides[_OF_SIDE * right + _MARK_RIGHT] == place
        at = np.int64(sides[_OF_SIDE * right + _OPEN_AT]) if known else 0
        if not known or total < opened[_OPEN * at + _OPEN_TOTAL]:
            if known:
                opened[_OPEN * at + _OPEN_TOTAL] = _DEAREST
            sides[_OF_SIDE * right + _MARK_RIGHT] = place
            sides[_OF_SIDE * right + _OPEN_AT] = width
            opened[_OPEN * width + _OPEN_NODE] = node
            opened[_OPEN * width + _OPEN_SIDE] = right
            opened[_OPEN * width + _OPEN_TOTAL] = total
            width += 1
        node = nodes[_NODE * node + _NEXT]
    return width


@part
def _unknown_ends(
    codes: Pointer, place: Number, end: Number, alone: Number, run: Number, words: _Dictionary, room: _Room
) -> Number:  # fmt: skip
    """List the ends of the unknown words that begin at a place; returns how many there are."""
    kind, ends = _kind(words, codes[place]), room.unknown_ends
    many, after = 0, place + 1
    grouped = kind >> 30 & 1
    if grouped and run - after <= _GROUP:
        ends[many] = run
        many += 1
    for _ in range(kind >> 26 & 15):
        if after > end or (grouped and after == run):
            break
        ends[many] = after
        many += 1
        if not _kind(words, codes[after] if after < end else 0) & kind & _KINDS:
            break
        after += 1
    if alone and not many:
        ends[many] = after
        many += 1
    return many


@part
def _add(
    number: Number, tokens: Pointer, place: Number, end: Number, width: Number, node: Number,
    words: _Dictionary, room: _Room,
) -> Number:  # fmt: skip
    """Make nodes of words that begin at a place, the last first; returns the number of the next node."""
    nodes, sides = room.nodes, room.sides
    token = _TOKEN * ((number >> 8) + (number & 0xFF))
    for _ in range(number & 0xFF):
        token -= _TOKEN
        left = np.int64(tokens[token + _LEFT])
        if sides[_OF_SIDE * left + _MARK_LEFT] != place:
            best, before = _best(words.sides * left, width, words, room)
            sides[_OF_SIDE * left + _MARK_LEFT] = place
            sides[_OF_SIDE * left + _BEST] = best
            sides[_OF_SIDE * left + _BEST_NODE] = before
        nodes[_NODE * node + _NEXT] = room.ending[end]
        nodes[_NODE * node + _BEFORE] = sides[_OF_SIDE * left + _BEST_NODE]
        nodes[_NODE * node + _BEGIN] = place
        nodes[_NODE * node + _SIDE] = tokens[token + _RIGHT]
        cost = np.int16(tokens[token + _COST])
        nodes[_NODE * node + _TOTAL] = sides[_OF_SIDE * left + _BEST] + cost
        room.ending[end] = node
        node += 1
    return node


@part
def _best(row: Number, width: Number, words: _Dictionary, room: _Room) -> tuple[Number, Number]:
    """The smallest cost up to a word, and the node before; `row` of the matrix is that of its left side."""
    best, found = np.int32(2**31 - 1), 0
    for at in range(width):
        side = room.open[_OPEN * at + _OPEN_SIDE]
        total = np.int32(room.open[_OPEN * at + _OPEN_TOTAL] + words.matrix[row + side])
        found = at if total < best else found
        best = min(best, total)
    return best, room.open[_OPEN * found + _OPEN_NODE]
