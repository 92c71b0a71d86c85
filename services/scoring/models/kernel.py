"""The compiled part of scoring: kernel.c, which the build of the package compiles.

Invariant: what it is given are arrays of the right type, contiguous, kept alive while it may be
called; their contents are checked by who makes them. It releases the interpreter's lock.
"""

import ctypes
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

LIBRARY: Final = Path(__file__).with_name("libkernel.so")

CHUNK: Final = 64
"""Rows whose patterns are found together."""

REASONS: Final = 6
"""Most reasons of a row."""

FIGURES: Final = ("margin", "total", "score", "missing", "pd", "grade", "low", "high", "refer")
"""What stands between the points of features and of groups; score, grade and refer are whole."""

_SIZES: Final = ("features", "columns", "blocks", "groups", "grades", "bands")
_ARRAYS: Final[Mapping[str, type[np.generic]]] = {
    "fills": np.float64,
    "column_feature": np.int32,
    "column_kind": np.int32,
    "set_from": np.int32,
    "sets": np.uint32,
    "node_from": np.int32,
    "node_column": np.int32,
    "threshold": np.float64,
    "entry_from": np.int32,
    "entry_feature": np.int32,
    "table_from": np.int64,
    "table": np.float64,
    "group_of": np.int32,
    "means": np.float64,
    "cuts": np.float64,
    "edges": np.float64,
    "step_from": np.int32,
    "margins": np.float64,
    "lows": np.float64,
    "highs": np.float64,
}
_NUMBERS: Final = (
    "bias",
    "slope",
    "intercept",
    "factor",
    "offset",
    "grain",
    "base",
    "least",
    "wide",
    "floor",
)


_Kind = type[ctypes.c_int64] | type[ctypes.c_void_p] | type[ctypes.c_double]

FIELDS: Final[tuple[tuple[str, _Kind], ...]] = (
    *((name, ctypes.c_int64) for name in (*_SIZES, "stride")),
    *((name, ctypes.c_void_p) for name in _ARRAYS),
    *((name, ctypes.c_double) for name in _NUMBERS),
    ("exp", ctypes.c_void_p),
)
"""Of the struct in kernel.c."""


class _Model(ctypes.Structure):
    _fields_ = FIELDS


_Buffer = ctypes.c_char * 1

_NOT_HERE: Final = (
    f"{LIBRARY.name} is not there, not of this machine or not of this release: run 'make setup', "
    "or install the wheel of this platform"
)


class Kernel:
    """The compiled function, with one model laid out for it.

    Args:
        parts: sizes, arrays and numbers, by their names in kernel.c.

    Raises:
        ImportError: it was not compiled, or of another release.
    """

    def __init__(self, parts: Mapping[str, Any]) -> None:
        try:
            library = ctypes.CDLL(str(LIBRARY))
            size = ctypes.c_int64.in_dll(library, "puhui_model_size").value
        except (OSError, ValueError) as error:
            raise ImportError(_NOT_HERE) from error
        if size != ctypes.sizeof(_Model):
            raise ImportError(_NOT_HERE)
        self._score = library.puhui_score
        self._score.argtypes = (
            ctypes.c_void_p,
            ctypes.c_void_p,
            ctypes.c_int64,
            ctypes.c_void_p,
        )
        self._score.restype = None
        self._arrays = {
            name: np.ascontiguousarray(parts[name], dtype=kind) for name, kind in _ARRAYS.items()
        }
        self._columns = int(parts["columns"])
        self._stride = 1 + 2 * parts["features"] + len(FIGURES) + 2 * parts["groups"] + REASONS
        self._model = _Model(
            *(parts[name] for name in _SIZES),
            self._stride,
            *(array.ctypes.data for array in self._arrays.values()),
            *(parts[name] for name in _NUMBERS),
            # What math.exp calls: PDs are the same as those of `Calibration`, to the last bit.
            ctypes.cast(ctypes.CDLL(None).exp, ctypes.c_void_p).value,
        )
        self._at = ctypes.addressof(self._model)

    def score(self, rows: Floats) -> Floats:
        """Score rows.

        Args:
            rows: rows x features, contiguous and writable, which is how its address is learned.

        Returns:
            rows x stride, as kernel.c writes it.
        """
        size = len(rows)
        if not size:
            return np.empty((0, self._stride))
        # Room to work in, behind the results: one array is made faster than two.
        scratch = -(-self._columns * min(size, CHUNK) // self._stride)
        out = np.empty((size + scratch, self._stride))
        self._score(self._at, _Buffer.from_buffer(rows.data), size, _Buffer.from_buffer(out.data))
        return out[:size]
