from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Optional, Union

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from pairs_lit.configuration.parser_messages import describe_type, rewrite_message
from pairs_lit.data.warps import Warp
from pairs_lit.text import suggest_name

KINDS = [
    (int, "a whole number"),
    (int | None, "a whole number or null"),
    (Optional[float], "a number or null"),  # noqa: UP045 - the form that other packages use
    (bool | Literal["end"], "true or false or 'end'"),
    (Union[Literal[64, 32], str, Literal["bf16"]], "one of 64, 32, 'bf16' or text"),  # noqa: UP007 - the form that other packages use
    (Sequence[int] | int, "a list such as [1, 2] or a whole number"),
    (tuple[str, ...], "a list such as [a, b]"),
    (Sequence[Literal["val", "test", "all"]], "a list such as [val, test]"),
    (list[Warp] | None, "a list such as [{shift_x: 0.5}] or null"),
    (Iterable, "a list such as [a, b]"),
    (list[Sequence[int]], "a list such as [[1, 2]]"),
    (Mapping[int, float], "a mapping such as {1: 0.5}"),
    (dict, "a mapping such as {a: 1}"),
    (Warp, "settings such as {shift_x: 0.5}"),
    (nn.Module, "the class path of a subclass of Module"),
    (Callable[[int], nn.Module], "the class path of a subclass of Module"),
    (Callable[[int], nn.Linear | nn.Module] | None, "the class path of a subclass of Linear or null"),
    (Tensor, "the class path of a subclass of Tensor"),
    (Any, "the class path of a subclass of Any"),
    (Path, "a path"),
]


@pytest.mark.parametrize(("kind", "words"), KINDS, ids=[words for _, words in KINDS])
def test_types_are_described_in_plain_language(kind: object, words: str) -> None:
    assert describe_type(kind) == words


def test_other_messages_are_joined_to_one_line() -> None:
    assert rewrite_message("unrecognized\n  arguments: --a 3.", []) == "unrecognized arguments: --a 3"
    assert rewrite_message('Parser key "a.b":\n  is broken', []) == "a.b: is broken"
    long = rewrite_message("x" * 400, [])
    assert len(long) < 310
    assert " … " in long


OPTIONS = ["trainer.max_epochs", "trainer.min_epochs", "rounds.seed", "data.batch_size", "model.sharing", "ckpt_path"]


@pytest.mark.parametrize(
    ("written", "suggestion"),
    [
        ("trainer.max_epoch", ": did you mean trainer.max_epochs?"),
        ("--max_epochs", ": did you mean --trainer.max_epochs?"),
        ("--epochs", ": did you mean --trainer.max_epochs or --trainer.min_epochs?"),
        ("--batch-size", ": did you mean --data.batch_size?"),
        ("model.batch_size", ": did you mean data.batch_size?"),
        ("--ckpt", ""),
        ("", ""),
    ],
)
def test_spelling_suggestions(written: str, suggestion: str) -> None:
    assert suggest_name(written, OPTIONS) == suggestion


@given(written=st.text())
def test_suggestion_accepts_any_text(written: str) -> None:
    assert suggest_name(written, OPTIONS).count("\n") == 0
    assert suggest_name(written, []) == ""
