"""Schema checks of a checkpoint's entries, which are not used before they match the schema of what a run saves."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor, nn

from pairs_lit.errors import PairsLitError
from pairs_lit.runs.commit import is_commit

_MAX_NUMBER = 2**40
"""The maximum of any number in a checkpoint; no run has more epochs, batches or seconds."""


def check_schema(part: str, saved: object, example: object, hint: str = "") -> None:
    """Raise PairsLitError if an entry of a checkpoint does not match the schema of an example.

    The schema consists of names, lengths, types and, for tensors, shapes and strides, but not of the numbers.

    Args:
        part: The entry's name and verb for the message, such as "weights are".
        saved: The entry.
        example: The example.
        hint: Further advice for the message.
    """
    check_part(part, matches_schema(saved, example), hint)


def check_part(part: str, is_valid: bool, hint: str = "") -> None:
    """Raise PairsLitError if an entry of a checkpoint ("weights are", in the message) is not valid."""
    if not is_valid:
        raise PairsLitError(
            f"the checkpoint is damaged or does not fit: its {part} not what this config and these versions of the "
            f"libraries would have saved. Use the config.yaml of the checkpoint's own run, or train again{hint}."
        )


def matches_schema(saved: object, example: object) -> bool:
    """Return whether a value matches the schema of an example; values are compared no deeper than the example."""
    if isinstance(example, Tensor):
        if not isinstance(saved, Tensor) or saved.layout is not torch.strided or saved.is_meta:
            return False
        return _get_layout(saved) == _get_layout(example)
    if isinstance(example, Mapping):
        if not isinstance(saved, Mapping) or saved.keys() != example.keys():
            return False
        return _all_match(saved.values(), example.values())
    if isinstance(example, list):
        return isinstance(saved, list) and len(saved) == len(example) and _all_match(saved, example)
    return type(saved) is type(example) and (not isinstance(saved, int | float) or 0 <= saved <= _MAX_NUMBER)


def _all_match(saved: Iterable[object], examples: Iterable[object]) -> bool:
    return all(matches_schema(*pair) for pair in zip(saved, examples, strict=True))


def _get_layout(value: Tensor) -> tuple[object, ...]:
    """Return the properties of a tensor that compiled kernels rely on.

    With wrong strides, a kernel would read beyond the end of the tensor.
    """
    return tuple(value.shape), value.is_floating_point(), value.is_contiguous() or value.stride()


class StateSchema:
    """The schema of a module's state, taken from the new module, which a checkpoint must match.

    Args:
        state: The state of the new module.

    Attributes:
        example: Tensors of the schema by name; they take no memory.
    """

    def __init__(self, state: Mapping[str, Any]) -> None:
        suffix = nn.modules.module._EXTRA_STATE_KEY_SUFFIX  # of the extra state of a user's module
        self._extra_names = {
            name for name, value in state.items() if name.split(".")[-1] == suffix or not isinstance(value, Tensor)
        }
        self.example: dict[str, Tensor] = {}
        for name, value in self.select_tensors(state).items():
            self.example[name] = value
            if value.layout is torch.strided:  # any other layout is rejected when a checkpoint is saved
                self.example[name] = torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device="meta")

    def select_tensors(self, state: Mapping[str, Any]) -> dict[str, Any]:
        """Return the tensors of a state, without the extra state, which a user's module must check itself."""
        return {name: value for name, value in state.items() if name not in self._extra_names}


def check_saveable(state: Mapping[str, object], examples: Mapping[str, object]) -> None:
    """Raise PairsLitError if a network's state no longer has the schema of the new network.

    No command could load such a checkpoint.

    Args:
        state: The state that is about to be saved.
        examples: The schema, see :attr:`StateSchema.example`.
    """
    for name in sorted(state.keys() | examples.keys()):
        if not matches_schema(state.get(name), examples.get(name)):
            raise PairsLitError(
                f"no checkpoint could be resumed: the network's {name} is {_describe_value(state.get(name))}, but was "
                f"{_describe_value(examples.get(name))} when it was built. Create it in the constructor with its "
                "final shape and "
                "type."
            )


def _describe_value(value: object) -> str:
    """Return the type, shape and layout of a tensor for a message, or a description of another value."""
    if value is None:
        return "not there"
    if not isinstance(value, Tensor) or value.layout is not torch.strided:
        return f"a {type(value).__name__} and not a dense tensor"
    layout = "" if value.is_contiguous() else f" with strides {value.stride()}"
    return f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}{layout}"


ParameterGroup = tuple[OptimizerCallable, Sequence[nn.Parameter]]
"""A factory of optimizers with the settings of a parameter group, and the parameters of that group."""


def build_optimizer_state(saved: object, groups: Sequence[ParameterGroup]) -> dict[str, Any]:
    """Return the optimizer's state from a checkpoint, with the settings of the config.

    Args:
        saved: A list of one state.
        groups: The groups of parameters that the optimizer will train. Parameters without gradients have no state.

    Raises:
        PairsLitError: The state does not match this optimizer and these parameters.
    """
    match saved:
        case [{"state": dict(state)}]:
            pass
        case _:
            state = {"no state": saved}  # matches no schema
    examples = [example for make, parameters in groups for example in _build_state_examples(make, parameters)]
    schema = {index: example for index, example in enumerate(examples) if index in state}
    check_schema("optimizer's state is", state, schema)
    settings = [make(parameters).state_dict()["param_groups"][0] for make, parameters in groups]
    numbers = iter(range(len(examples)))
    param_groups = [
        {**group, "params": list(islice(numbers, len(parameters)))}
        for group, (_, parameters) in zip(settings, groups, strict=True)
    ]
    return {"state": state, "param_groups": param_groups}


def _build_state_examples(make: OptimizerCallable, parameters: Sequence[nn.Parameter]) -> list[dict[str, Any]]:
    """Return an example of the state that an optimizer keeps for each of the parameters."""
    sample = nn.Parameter(torch.zeros(2, 3))
    sample.grad = torch.zeros(2, 3)
    optimizer = make([sample])
    optimizer.step()  # creates the state
    state = dict(optimizer.state[sample])
    per_element = [name for name, value in state.items() if isinstance(value, Tensor) and value.dim() == 2]
    return [state | dict.fromkeys(per_element, parameter) for parameter in parameters]


def check_progress(saved: object, curves: Mapping[str, Tensor]) -> None:
    """Raise PairsLitError if the state of a :class:`RoundRunner` does not fit the checkpoint's epoch and rounds.

    Args:
        saved: The state.
        curves: Examples of the curves, (epochs, R) each.
    """
    match saved:
        case {"commits": list(names)}:
            commits = [name for name in names if name is None or is_commit(name)]
        case _:
            commits = []
    check_schema("curves are", saved, {"curves": curves, "seconds": 0.0, "commits": commits})
