"""The LightningDataModules of kdlight, one data set per file.

``datamodules`` is a generic name for a top-level package: another checkout on the path may have one
too. So it makes sure that it lies beside the ``kdlight`` it works with.
"""

from pathlib import Path

import kdlight
from kdlight.errors import InputError

_HERE = Path(__file__).resolve().parents[1]
_THERE = Path(kdlight.__path__[0]).resolve().parent
if _HERE != _THERE:
    raise InputError(
        f"datamodules: imported from {_HERE}, but kdlight from {_THERE}; "
        "expected one checkout for both."
    )
