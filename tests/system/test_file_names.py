from pathlib import Path

import pytest

from pairs_lit.errors import PairsLitError
from pairs_lit.system.file_names import (
    avoid_device_name,
    check_output_path,
    describe_name_problem,
    find_case_variant,
    fold_name,
    group_case_variants,
    is_device_name,
)

DEVICES = ["nul", "NUL", "aux.yaml", "Con.tar.gz", "prn .csv", "com1", "LPT9.txt", "COM¹", "conin$", "nul "]


@pytest.mark.parametrize("name", DEVICES)
def test_devices_are_recognised(name: str) -> None:
    assert is_device_name(name)
    assert not is_device_name(avoid_device_name(name))


@pytest.mark.parametrize("name", ["null", "cnn_aux", "auxiliary.yaml", "com10", "com", "my nul", "_aux", "nul-1"])
def test_similar_names_are_no_devices(name: str) -> None:
    assert not is_device_name(name)
    assert avoid_device_name(name) == name


def test_a_device_name_keeps_case_and_extension() -> None:
    assert avoid_device_name("Aux.v2.yaml") == "Aux_.v2.yaml"


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("a:b.csv", "which contains ':'"),
        ("what?.png", r"which contains '\?'"),
        ("a\\b", r"which contains '\\\\'"),
        ("tab\t.csv", r"which contains '\\t'"),
        ('"quoted".csv', "which contains '\"'"),
        ("table.", "whose last character Windows drops"),
        ("table.csv ", "whose last character Windows drops"),
        ("nul.csv", "which Windows takes for a device"),
    ],
)
def test_an_output_that_windows_does_not_accept_is_rejected(name: str, problem: str, tmp_path: Path) -> None:
    for path in (tmp_path / name, tmp_path / name / "table.csv"):
        with pytest.raises(PairsLitError, match=rf"--output must be a name that every system accepts, got .*{problem}"):
            check_output_path("--output", path)
    assert describe_name_problem(name)


@pytest.mark.parametrize(
    "name", ["table.csv", "Größe 漢字.png", ".hidden", "a b", "..", "x/../table.csv", "it's [1] $5"]
)
def test_other_outputs_are_accepted(name: str, tmp_path: Path) -> None:
    check_output_path("--output", tmp_path / name)
    check_output_path("--output", Path(name))
    check_output_path("--output", None)


def test_an_existing_folder_of_another_system_can_be_written_to(tmp_path: Path) -> None:
    (tmp_path / "12:30").mkdir()
    check_output_path("--output", tmp_path / "12:30" / "table.csv")
    check_output_path("--output", tmp_path / "12:30")


def test_names_that_differ_in_case_only(tmp_path: Path) -> None:
    assert find_case_variant(tmp_path / "missing" / "net") is None
    (tmp_path / "Net").mkdir()
    assert find_case_variant(tmp_path / "net") == tmp_path / "Net"
    assert find_case_variant(tmp_path / "Net") is None
    assert find_case_variant(tmp_path / "net2") is None
    (tmp_path / "net").mkdir()
    assert find_case_variant(tmp_path / "net") is None
    assert group_case_variants(["a", "B", "A", "b", "c"]) == [["a", "A"], ["B", "b"]]


def test_composed_and_decomposed_accents_are_the_same_name() -> None:
    assert fold_name("\u00fcber") == fold_name("U\u0308ber") != fold_name("uber")
