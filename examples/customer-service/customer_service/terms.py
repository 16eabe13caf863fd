"""Text as the terms that retrieval and classification count: lower case words with a light stem.

The stem joins `returned`, `returning` and `returns`. It is no linguistics: the same rule cuts what is stored and what
is asked, and only that has to agree. Pure.
"""

from __future__ import annotations

import re

WORD = re.compile(r"[a-z]+(?:'[a-z]+)?|\d+(?:\.\d+)?")
ENDINGS = ("ings", "ing", "ies", "ied", "ed", "es", "s", "y", "e")
STEM_LETTERS_MIN = 3
STOP_WORDS = frozenset(
    WORD.findall(
        "a about after all also am an and any are as at be been before but by can can't could did do does don't for "
        "from get got had has have he her here how i i'd i'll i'm i've if in into is it it's its just like may me "
        "might my no not of on one or our please she should so some than that that's the their them then there these "
        "they this to too until up us was we were what what's when where which while who why will with would yes you "
        "your"
    )
)


def words(text: str) -> list[str]:
    """Every word of the text as its stem, in order."""
    return [stem(word) for word in WORD.findall(_plain(text))]


def terms(text: str) -> list[str]:
    """The words that tell one text from another: without `STOP_WORDS`."""
    return [stem(word) for word in WORD.findall(_plain(text)) if word not in STOP_WORDS]


def stem(word: str) -> str:
    """The word without the first of `ENDINGS` that leaves enough of it, and without a doubled last consonant."""
    for ending in ENDINGS:
        if word.endswith(ending) and not word.endswith("ss") and len(word) - len(ending) >= STEM_LETTERS_MIN:
            word = word.removesuffix(ending)
            break
    doubled = len(word) > STEM_LETTERS_MIN and word[-1] == word[-2] and word[-1] not in "aeiousl"
    return word[:-1] if doubled else word


def _plain(text: str) -> str:
    return text.lower().replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")
