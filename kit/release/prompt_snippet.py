"""Python lines that prepare a raw prompt without the kit: cut into words as training saw them.

    snippet("mecab", "lossless")     # for the model card; it rebinds `prompt`

They do the words only: the prompt is taken as normalised, and as one sentence.
"""

from __future__ import annotations

_CUT = {
    "mecab": (
        "import fugashi, jumandic  # pip install fugashi jumandic",
        'cut = fugashi.GenericTagger(jumandic.MECAB_ARGS + " -Owakati").parse',
    ),
    "jumanpp": (
        "import subprocess  # Juman++ 2 on the PATH",
        'cut = lambda text: subprocess.run(["jumanpp", "--segment"], input=text, text=True, '
        "capture_output=True).stdout",
    ),
}
_JOIN = {  # a space of the text stays, as the beginning of a word; in article mode it is lost
    "lossless": r'prompt = "\u2063 ".join("\u2063".join(cut(part).split()) for part in prompt.split(" "))',
    "article": 'prompt = " ".join(" ".join(cut(part).split()) for part in prompt.split())',
}


def snippet(segmenter: str, spaces: str) -> str:
    """The lines for a segmenter (mecab or jumanpp) and a mode of `tokenizer.spaces`."""
    return "\n".join((*_CUT[segmenter], _JOIN[spaces])) + "\n"
