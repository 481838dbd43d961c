import pytest

from pairs_lit.checkpoints.match import check_metadata
from pairs_lit.errors import PairsLitError

RECORDED = {"seeds": [0, 1], "source": "digits", "train_pairs": 1000}


def test_equal_metadata_match() -> None:
    check_metadata(RECORDED, dict(RECORDED))


@pytest.mark.parametrize(
    ("name", "value"), [("seeds", [0, 1, 2]), ("source", "mnist"), ("train_pairs", 999), ("train_pairs", None)]
)
def test_a_mismatch_names_the_key_and_both_values(name: str, value: object) -> None:
    with pytest.raises(PairsLitError) as caught:
        check_metadata(RECORDED, RECORDED | {name: value})
    assert f"{name} is {RECORDED[name]} in the checkpoint and {value} in the config" in str(caught.value)


def test_a_key_that_the_checkpoint_lacks_is_a_mismatch() -> None:
    with pytest.raises(PairsLitError, match="relation is None in the checkpoint and le in the config"):
        check_metadata(RECORDED, RECORDED | {"relation": "le"})


def test_a_key_that_the_checkpoint_lacks_is_a_mismatch_even_if_the_config_has_none() -> None:
    with pytest.raises(PairsLitError, match="relation"):
        check_metadata(RECORDED, RECORDED | {"relation": None})


def test_a_mismatch_is_one_short_line() -> None:
    with pytest.raises(PairsLitError) as caught:
        check_metadata({"network": "a\n" * 500}, {"network": "b\n" * 500})
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300
