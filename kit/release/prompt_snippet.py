r"""Python lines that cut text into words as training saw them, without the kit.

    snippet("mecab", "lossless", '"霧浜県の"')     # for the model card; it sets `prompt`
    parts("mecab", "lossless")                     # what it imports and defines, for other snippets

They do the words only: text is taken as normalised. Where the tokenizer keeps spaces and line ends
(`tokenizer.spaces: lossless`), they stay.
"""

from __future__ import annotations

from typing import NamedTuple

_IMPORTS = {
    "mecab": "import fugashi, jumandic  # pip install fugashi jumandic\n",
    "jumanpp": "import subprocess  # Juman++ 2 on the PATH\n",
}
_CUT = {
    "mecab": 'cut = fugashi.GenericTagger(jumandic.MECAB_ARGS + " -Owakati").parse\n',
    "jumanpp": 'cut = lambda text: subprocess.run(["jumanpp", "--segment"], input=text, text=True, '
    "capture_output=True).stdout\n",
}
_WORDS = {
    # A space begins a word, and is kept from the word before for llama.cpp, which gets them one by one.
    "lossless": r"""
def words(text):
    text = re.sub(r"\S+", lambda part: "\u2063".join(cut(part[0]).split()), text)
    return re.sub(r"(?=\s)", "\u2063", text)
""",
    "article": """
def words(text):
    return " ".join(" ".join(cut(part).split()) for part in text.split())
""",
}


class Parts(NamedTuple):
    """The lines of a snippet: what it imports, and what defines `words`, a function of a text."""

    imports: str
    definition: str


def snippet(segmenter: str, spaces: str, prompt: str) -> str:
    """The lines for a segmenter (mecab or jumanpp), a mode of `tokenizer.spaces`, and a prompt as code."""
    imports, definition = parts(segmenter, spaces)
    return f"{imports}\n{definition}\n\nprompt = words({prompt})\n"


def parts(segmenter: str, spaces: str) -> Parts:
    """The same without the prompt."""
    needs = "import re\n\n" if spaces == "lossless" else ""
    return Parts(needs + _IMPORTS[segmenter], _CUT[segmenter] + "\n" + _WORDS[spaces])
