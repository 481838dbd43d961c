"""The former name of :mod:`pairs_lit.data.custom_dataset`, which this release still takes."""

from warnings import warn

from pairs_lit.data.custom_dataset import load_custom_dataset as load_own

__all__ = ["load_own"]

warn("pairs_lit.data.own.load_own is now pairs_lit.data.custom_dataset.load_custom_dataset.", DeprecationWarning, 2)
