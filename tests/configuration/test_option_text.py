"""Conversion of options to command-line arguments and back."""

from pathlib import Path

import yaml

from pairs_lit.configuration.option_text import build_arguments, iter_options
from pairs_lit.nn.backbones import FC


def test_options_are_read_with_and_without_equals_sign() -> None:
    assert list(iter_options(["fit", "--a=1", "--b", "2", "--c", "--d="])) == [
        *(("--a", "1"), ("--b", "2"), ("--c", "--d=")),
        ("--d", ""),
    ]
    assert list(iter_options(["--last"])) == [("--last", "")]
    assert list(iter_options([])) == []


def test_a_config_and_its_changes_become_arguments() -> None:
    changes = {"rounds.count": 3, "model.backbone": FC, "data.root": Path("mnist"), "data.watch_test": False}
    assert build_arguments("fc.yaml", changes) == [
        "--config=fc.yaml",
        "--rounds.count=3",
        "--model.backbone=pairs_lit.nn.backbones.FC",
        "--data.root=mnist",
        "--data.watch_test=false",
    ]


def test_config_may_be_a_mapping() -> None:
    content = {"rounds": {"count": 3}}
    (argument,) = build_arguments(content, None)
    assert yaml.safe_load(argument.removeprefix("--config=")) == content
