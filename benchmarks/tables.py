"""Reads the published tables from a user's folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from supernets.errors import SupernetError

if TYPE_CHECKING:
    from pandas import DataFrame

CELL_OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
"""Of NAS-Bench-201, as its tables number them."""


class TableError(SupernetError):
    """The tables are missing, or are different ones."""


def read(folder: Path, name: str, columns: Sequence[str]) -> DataFrame:
    """Return a table with all its columns; raise TableError if the folder, the file or one of `columns` is missing."""
    import pandas

    if not folder.is_dir():
        raise TableError(f"there is no folder {folder}: give the one that holds {name}")
    path = folder / name
    if not path.is_file():
        raise TableError(f"{folder} holds no {name}: put the published table there, or give another folder")
    wanted = f"it is Parquet with the columns {', '.join(columns)}"
    try:
        frame = pandas.read_parquet(path)
    except ImportError as error:
        raise TableError(f"{name} cannot be read without pyarrow: pip install pyarrow") from error
    except Exception as error:  # pyarrow's own, whatever it is called
        raise TableError(f"{path} is not the table ({str(error).splitlines()[0]}): {wanted}") from error
    absent = [column for column in columns if column not in frame]
    if absent:
        raise TableError(f"{path} is not the table (it lacks {', '.join(absent)}): {wanted}")
    return frame
