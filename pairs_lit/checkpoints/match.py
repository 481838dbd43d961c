"""Comparison of a checkpoint's metadata with the configuration that loads it."""

from collections.abc import Mapping
from typing import Any

from pairs_lit.checkpoints.files import METADATA_DEFAULTS, NETWORK_KEY
from pairs_lit.checkpoints.schema import matches_schema
from pairs_lit.errors import PairsLitError
from pairs_lit.runs.run_metadata import DETERMINISTIC_KEY, FINGERPRINT_KEY, UNRECORDED_SETTINGS


def check_metadata(saved: Mapping[str, Any], expected: Mapping[str, Any], hint: str = "") -> None:
    """Raise PairsLitError with the first difference if a checkpoint's metadata differ from the configuration's.

    Args:
        saved: The metadata of the checkpoint.
        expected: The metadata of the configuration.
        hint: Further advice for a difference in the network.
    """
    saved = {**UNRECORDED_SETTINGS, **METADATA_DEFAULTS, **saved}
    for name, value in expected.items():
        if name == FINGERPRINT_KEY and saved.get(name) != value:
            if name in saved:  # earlier releases did not record it
                raise PairsLitError(
                    "the checkpoint does not match the data: the SHA-256 of all images and labels of "
                    f"{saved.get('source')} is {str(saved[name])[:8]}… in the checkpoint and {str(value)[:8]}… now. "
                    f"{_explain_other_images(saved, expected)}"
                )
        elif (
            name == DETERMINISTIC_KEY
        ):  # may be noticed or not by chance, and does not matter if the images are the same
            continue
        elif name not in saved or not matches_schema(saved[name], value) or saved[name] != value:
            in_checkpoint, in_config = find_first_difference(saved.get(name), value)
            raise PairsLitError(
                f"the checkpoint does not match the config: {name} is {shorten(in_checkpoint)} in the checkpoint and "
                f"{shorten(in_config)} in the config. Use the config.yaml of the checkpoint's own run"
                f"{hint if name == NETWORK_KEY else ''}."
            )


def _explain_other_images(saved: Mapping[str, Any], expected: Mapping[str, Any]) -> str:
    """Return the likely reason why the images differ from those of the checkpoint, and a fix."""
    source = str(saved.get("source"))
    if not (saved.get(DETERMINISTIC_KEY, True) and expected.get(DETERMINISTIC_KEY, True)):
        return (
            f"The dataset {source} returns different images each time it is read, so those of the run cannot be read "
            "again. Remove the random transform from the dataset, set data.augment instead, and train again."
        )
    if source.startswith("EMNIST"):
        return (
            "Set data.root to the data that the run was trained on. If an earlier release trained it, which read "
            "EMNIST with rows and columns exchanged, train again."
        )
    is_custom = "." in source
    advice = " If the dataset draws random numbers in its constructor, give it a fixed seed." if is_custom else ""
    return f"Set data.root to the data that the run was trained on.{advice}"


def find_first_difference(saved: object, expected: object) -> tuple[object, object]:
    """Return the first entries in which two lists differ, if they are of equal length or too long to print.

    Other values, and short lists of different lengths, are returned whole.
    """
    if not isinstance(saved, list) or not isinstance(expected, list):
        return saved, expected
    if len(saved) != len(expected) and shorten(saved) != shorten(expected):
        return saved, expected
    return next((pair for pair in zip(saved, expected, strict=False) if pair[0] != pair[1]), (saved, expected))


def shorten(value: object) -> str:
    """Return a value as one line of at most 60 characters."""
    text = " ".join(str(value).split())
    return text if len(text) <= 60 else f"{text[:57]}..."
