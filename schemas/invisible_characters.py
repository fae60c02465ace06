"""Find invisible characters in text, except where a script or an emoji needs them."""

import re
import unicodedata
from collections.abc import Callable, Sequence

_PRINTABLE_BUT_UNSEEN = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180d\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
"""Fillers and variation selectors, which Python counts as printable."""
_FORMATS_SEEN = re.compile("[\u0600-\u0605\u06dd\u070f\u0890\u0891\u08e2\U000110bd\U000110cd]")
"""Signs of numbers and verses, which are visible although Unicode counts them as format characters."""
_NEWER = re.compile("[\U0001f000-\U0001faff\U00020000-\U0002fffd\U00030000-\U0003fffd]")
"""Blocks of emoji and ideographs, which may be newer than this Python's Unicode tables."""
_FLAG = re.compile("\U0001f3f4[\U000e0030-\U000e0039\U000e0061-\U000e007a]{1,6}\U000e007f")
"""The flag of a region, such as Scotland's: a black flag and the region's code in invisible characters."""
_IDEOGRAPH = re.compile("[\u3400-\u9fff\U00020000-\U0003fffd]")
_MONGOLIAN = re.compile("[\u1820-\u18aa]")
_BRAILLE = re.compile("[\u2801-\u28ff]")
_SKIN_TONE = re.compile("[\U0001f3fb-\U0001f3ff]")
_KEYCAP = "\u20e3"
_EMOJI_STYLE = "\ufe0f"
_VIRAMA = 9
"""The combining class of the signs that join consonants, in the scripts of India and around it."""


def unseen_character(text: str, breaks: str = "") -> int | None:
    """The position of the first invisible character that no script or emoji needs there.

    Args:
        text: any.
        breaks: control characters that it may contain.

    Returns:
        the position; None where there is none.
    """
    if text.isprintable() and (text.isascii() or not _PRINTABLE_BUT_UNSEEN.search(text)):
        return None
    flags = {position for found in _FLAG.finditer(text) for position in range(*found.span())}
    return next(
        (
            position
            for position, character in enumerate(text)
            if not (_is_drawn(character) or character in breaks or position in flags or _is_needed(text, position))
        ),
        None,
    )


def _is_drawn(character: str) -> bool:
    if _PRINTABLE_BUT_UNSEEN.match(character):
        return False
    drawn = character.isprintable() or _FORMATS_SEEN.match(character) or _NEWER.match(character)
    return bool(drawn) or unicodedata.category(character) == "Zs"


def _is_needed(text: str, position: int) -> bool:
    """Whether an invisible character changes how its neighbours are drawn."""
    before, after = text[max(0, position - 1) : position], text[position + 1 : position + 2]
    needed = next((needed for characters, needed in _NEEDED if characters.match(text[position])), None)
    return needed is not None and needed(before or " ", after or " ")


def _joins(before: str, after: str) -> bool:
    """Whether a zero-width joiner is within an Indic cluster or an emoji."""
    if _VIRAMA in (unicodedata.combining(before), unicodedata.combining(after)):
        return True
    return (_is_symbol(before) or before == _EMOJI_STYLE or bool(_SKIN_TONE.match(before))) and _is_symbol(after)


def _separates(before: str, after: str) -> bool:
    """Whether a zero-width non-joiner is within an Indic cluster, or between letters that would join, as in Arabic."""
    if unicodedata.combining(before) == _VIRAMA:
        return True
    return unicodedata.bidirectional(before) in {"AL", "NSM"} and unicodedata.bidirectional(after) == "AL"


def _styles_symbol(before: str, after: str) -> bool:
    return _is_symbol(before) or before in "\u203c\u2049\u3030" or (before in "0123456789#*" and after == _KEYCAP)


def _is_symbol(character: str) -> bool:
    return unicodedata.category(character) in {"So", "Sm"} or bool(_NEWER.match(character))


_NEEDED: Sequence[tuple[re.Pattern[str], Callable[[str, str], bool]]] = (
    (re.compile("\u200d"), _joins),
    (re.compile("\u200c"), _separates),
    (re.compile("[\ufe0e\ufe0f]"), _styles_symbol),
    (re.compile("[\ufe00-\ufe0d\U000e0100-\U000e01ef]"), lambda before, _: bool(_IDEOGRAPH.match(before))),
    (re.compile("[\u180b-\u180f]"), lambda before, _: bool(_MONGOLIAN.match(before))),
    (re.compile("\u2800"), lambda before, after: bool(_BRAILLE.match(before) and _BRAILLE.match(after))),
)
"""Invisible characters, and whether the characters before and after need them."""
