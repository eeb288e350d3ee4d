"""Escapes text from the database for display.

Streamlit interprets text as Markdown with formulas, colours, emoji and further syntax of its own; Plotly interprets it
as HTML. Text from users, files and error messages is neither, so this module escapes it for both.
"""

import re
import unicodedata

MOST = 80
"""Most characters of a name in running text; tables and details show all of it."""

_MEANT = re.compile(r"([\\`*_{}\[\]<>#!|~$:&@^]|^[-+]|(?<=^\d)[.)](?=\s))")
"""Characters with a meaning in Markdown or Streamlit's additions to it."""
_REPLACED = re.compile(
    r"(?<!\S)(?:<->|->|<-|--|>=|<=|~=)(?!\S)"  # by one character
    r"|:(?!\d\d:)[\w+-]+:"  # by an emoji; not the minutes of a time
    r"|(?<=http)://|(?<=https)://|(?<=www)\.|(?<=[\w.+-])@(?=[\w-]+\.\w)",  # by a link
    re.IGNORECASE,
)
"""Text that Streamlit replaces even if it is escaped, except in code."""


def shortened(value: object, most: int = MOST) -> str:
    """Return a text on one line, with at most `most` characters and with escapes for invisible ones."""
    text = " ".join(str(value).split())
    cut = text if len(text) <= most else text[: most - 1] + "…"
    return "".join(one if _is_visible(one) else f"\\u{ord(one):04x}" for one in cut)


def _is_visible(character: str) -> bool:
    """Return False for control and format characters, such as those of text direction, except the joiner of emoji."""
    return character == "\u200d" or unicodedata.category(character) not in ("Cc", "Cf", "Cs")


def markdown(value: object, most: int = MOST) -> str:
    """Return Markdown that shows the text literally, so that users can copy it."""
    text, parts, end = shortened(value, most), [], 0
    for found in _REPLACED.finditer(text):
        parts += [_MEANT.sub(r"\\\1", text[end : found.start()]), f"`{found.group()}`"]
        end = found.end()
    return _isolated("".join([*parts, _MEANT.sub(r"\\\1", text[end:])]))


def code(value: object) -> str:
    """Return Markdown that shows the text as code."""
    text = shortened(value, 10_000)
    fence = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence} {text} {fence}"


def plot(value: object, most: int = MOST) -> str:
    """Return the text escaped for labels, legends and hover texts of figures."""
    text = shortened(value, most).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _isolated(text.replace("%{", "%\u2060{").replace("$", "&#36;"))


def _isolated(text: str) -> str:
    """Isolate right-to-left text, so that it does not reorder the text beside it."""
    turns = any(unicodedata.bidirectional(one) in ("R", "AL") for one in text)
    return f"\u2068{text}\u2069" if turns else text
