"""The comparison of a checkpoint's record with that of the configuration that loads it."""

from collections.abc import Mapping
from typing import Any

from pairs_lit.checkpoints.files import NETWORK, USUAL
from pairs_lit.checkpoints.schema import fits
from pairs_lit.errors import PairsLitError
from pairs_lit.runs.run_metadata import DETERMINISTIC, FINGERPRINT, UNRECORDED


def check_match(saved: Mapping[str, Any], wanted: Mapping[str, Any], hint: str = "") -> None:
    """Raise PairsLitError if a checkpoint's record differs from the configuration's; name the first difference.

    Args:
        saved: The record.
        wanted: That of the configuration.
        hint: What else may have changed where the network differs.
    """
    saved = {**UNRECORDED, **USUAL, **saved}
    for name, value in wanted.items():
        if name == FINGERPRINT and saved.get(name) != value:
            if name in saved:  # earlier releases recorded none
                raise PairsLitError(
                    "the checkpoint does not match the data: the SHA-256 of all images and labels of "
                    f"{saved.get('source')} is {str(saved[name])[:8]}… in the checkpoint and {str(value)[:8]}… now. "
                    f"{_explain_other_images(saved, wanted)}"
                )
        elif name == DETERMINISTIC:  # seen only by chance, and of no account where the images are the same
            continue
        elif name not in saved or not fits(saved[name], value) or saved[name] != value:
            here, there = first_difference(saved.get(name), value)
            raise PairsLitError(
                f"the checkpoint does not match the config: {name} is {shortened(here)} in the checkpoint and "
                f"{shortened(there)} in the config. Use the config.yaml of the checkpoint's own run"
                f"{hint if name == NETWORK else ''}."
            )


def _explain_other_images(saved: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """Return why the images may be others than those of the checkpoint, and what to do."""
    source = str(saved.get("source"))
    if not (saved.get(DETERMINISTIC, True) and wanted.get(DETERMINISTIC, True)):
        return (
            f"The dataset {source} returns different images each time it is read, so those of the run cannot be read "
            "again. Remove the random transform from the dataset, set data.augment instead, and train again."
        )
    if source.startswith("EMNIST"):
        return (
            "Set data.root to the data that the run was trained on; if an earlier release trained it, which read "
            "EMNIST with rows and columns exchanged, train again."
        )
    own = "; if the dataset draws random numbers when it is made, give it a fixed seed" if "." in source else ""
    return f"Set data.root to the data that the run was trained on{own}."


def first_difference(saved: object, wanted: object) -> tuple[object, object]:
    """Narrow two lists down to their first different entries, if they are of equal length or too long to be shown."""
    if not isinstance(saved, list) or not isinstance(wanted, list):
        return saved, wanted
    if len(saved) != len(wanted) and shortened(saved) != shortened(wanted):
        return saved, wanted
    return next((pair for pair in zip(saved, wanted, strict=False) if pair[0] != pair[1]), (saved, wanted))


def shortened(value: object) -> str:
    """Return a value in one line of at most 60 letters."""
    text = " ".join(str(value).split())
    return text if len(text) <= 60 else f"{text[:57]}..."
