"""Control characters that carry text through wikiextractor that it would drop or alter.

XML forbids them, and `simplify` removes those that an article holds none the less, so that none is mistaken
for text. U+001C to U+001F, white space to Python, are not used.
"""

from __future__ import annotations

import re

# Begin a line.
HEADING = "\x01"  # then the digit of its level
ITEM = "\x02"  # of a list
CODE = "\x03"  # of a program
# Stand within a line.
UNKNOWN = "\x04"  # a template that the table does not have; then its number, then END
VALUE = "\x05"  # one whose text only the wiki knows, such as a population; the same
FORMULA = "\x06"
END = "\x07"
PIPE = "\x08"  # of {{!}}, which separates no parameters
NOTE = "\x18"  # a note or a mark of an editor, which has no text
# Literal characters of <nowiki> and of programs, which are no markup.
LITERAL = {"<": "\x0e", ">": "\x0f", "{": "\x10", "}": "\x11", "'": "\x12", "&": "\x13"}
LITERAL_IN_CODE = LITERAL | {"[": "\x14", "]": "\x15", "(": "\x16", ")": "\x17"}

AS_MARKS = str.maketrans(LITERAL)
AS_MARKS_IN_CODE = str.maketrans(LITERAL_IN_CODE)
AS_TEXT = str.maketrans({mark: text for text, mark in LITERAL_IN_CODE.items()})
CONTROLS = re.compile("[\0-\x08\x0b-\x1f]")
CONTROL_ENTITIES = re.compile(
    r"&#(?:0*(?:[0-8]|1[1-9]|2\d|3[01])|[xX]0*(?:[0-8b-fB-F]|1[0-9a-fA-F]));"
)
