"""Text that comes from the database, made safe for where it is shown.

Streamlit takes text for Markdown, with formulas, colours, emoji and signs of its own; Plotly takes it for HTML.
What users, files and error messages say is neither, and passes through here on its way to either.
"""

import re
import unicodedata

MOST = 80
"""Characters of a name in running text; tables and details hold all of it."""

_MEANT = re.compile(r"([\\`*_{}\[\]<>#!|~$:&@^]|^[-+]|(?<=^\d)[.)](?=\s))")
"""What Markdown, or Streamlit's own additions to it, may take for more than the sign itself."""
_REPLACED = re.compile(
    r"(?<!\S)(?:<->|->|<-|--|>=|<=|~=)(?!\S)"  # by one sign
    r"|:(?!\d\d:)[\w+-]+:"  # by an emoji; the minutes of a time are none
    r"|(?<=http)://|(?<=https)://|(?<=www)\.|(?<=[\w.+-])@(?=[\w-]+\.\w)",  # by a link
    re.IGNORECASE,
)
"""What Streamlit replaces even where it is escaped, but not within code."""


def shortened(value: object, most: int = MOST) -> str:
    """The text on one line, at most so many characters of it; what cannot be seen is written as its code."""
    text = " ".join(str(value).split())
    cut = text if len(text) <= most else text[: most - 1] + "…"
    return "".join(one if _is_visible(one) else f"\\u{ord(one):04x}" for one in cut)


def _is_visible(character: str) -> bool:
    """Signs that turn the direction of a line, say, are not; the joiner within an emoji does no harm."""
    return character == "\u200d" or unicodedata.category(character) not in ("Cc", "Cf", "Cs")


def markdown(value: object, most: int = MOST) -> str:
    """Markdown that shows the text as it is: it can be copied, and pasted where it came from."""
    text, parts, end = shortened(value, most), [], 0
    for found in _REPLACED.finditer(text):
        parts += [_MEANT.sub(r"\\\1", text[end : found.start()]), f"`{found.group()}`"]
        end = found.end()
    return _isolated("".join([*parts, _MEANT.sub(r"\\\1", text[end:])]))


def code(value: object) -> str:
    """Markdown that shows the text as code, to be copied."""
    text = shortened(value, 10_000)
    fence = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence} {text} {fence}"


def plot(value: object, most: int = MOST) -> str:
    """The text for labels, legends and hover texts of figures."""
    text = shortened(value, most).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _isolated(text.replace("%{", "%\u2060{").replace("$", "&#36;"))


def _isolated(text: str) -> str:
    """Text that runs from right to left keeps to itself, and what stands beside it keeps its place."""
    turns = any(unicodedata.bidirectional(one) in ("R", "AL") for one in text)
    return f"\u2068{text}\u2069" if turns else text
