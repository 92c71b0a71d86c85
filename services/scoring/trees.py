"""LightGBM, imported without scikit-learn.

LightGBM imports scikit-learn where it is installed, for an interface that nothing here uses: near
half of its own import. Training alone needs LightGBM; what is served is read by `contributions`.
"""

import sys
from typing import Final

_OTHER: Final = "sklearn"

_known = sys.modules.get(_OTHER)
if _known is None:
    sys.modules[_OTHER] = None  # type: ignore[assignment]  # documented: makes its import fail
try:
    import lightgbm
finally:
    if _known is None:
        del sys.modules[_OTHER]

__all__ = ["lightgbm"]
