"""What a checkpoint's parts must look like: nothing of it is used before it has the form of what a run writes."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor, nn

from pairs_lit.errors import PairsLitError
from pairs_lit.runs.commit import is_commit

_LARGEST = 2**40
"""No run has more epochs, batches or seconds."""


def check_form(part: str, saved: object, wanted: object, hint: str = "") -> None:
    """Refuse a part of a checkpoint ("weights are", in the message) that does not have the form of an example.

    The form is names, lengths, types and, of tensors, shapes and strides; the numbers do not matter. A hint says what
    else the user may do.

    Raises:
        PairsLitError: They differ in form.
    """
    check_that(part, fits(saved, wanted), hint)


def check_that(part: str, is_as_saved: bool, hint: str = "") -> None:
    """Raise PairsLitError if a part of a checkpoint ("weights are", in the message) is not as a run would save it."""
    if not is_as_saved:
        raise PairsLitError(
            f"the checkpoint is damaged or does not fit: its {part} not what this config and these versions of the "
            f"libraries would have saved. Use the config.yaml of the checkpoint's own run, or train anew{hint}."
        )


def fits(saved: object, wanted: object) -> bool:
    """Tell whether a value has the form of an example; goes no deeper than the example does."""
    if isinstance(wanted, Tensor):
        if not isinstance(saved, Tensor) or saved.layout is not torch.strided or saved.is_meta:
            return False
        return _layout(saved) == _layout(wanted)
    if isinstance(wanted, Mapping):
        if not isinstance(saved, Mapping) or saved.keys() != wanted.keys():
            return False
        return _all_fit(saved.values(), wanted.values())
    if isinstance(wanted, list):
        return isinstance(saved, list) and len(saved) == len(wanted) and _all_fit(saved, wanted)
    return type(saved) is type(wanted) and (not isinstance(saved, int | float) or 0 <= saved <= _LARGEST)


def _all_fit(saved: Iterable[object], wanted: Iterable[object]) -> bool:
    return all(fits(*pair) for pair in zip(saved, wanted, strict=True))


def _layout(value: Tensor) -> tuple[object, ...]:
    """All that a compiled kernel takes for granted: strides that lie would make it read beyond the tensor's end."""
    return tuple(value.shape), value.is_floating_point(), value.is_contiguous() or value.stride()


class Form:
    """What the state of a module looks like when it is built: all that loading can ask for."""

    def __init__(self, state: Mapping[str, Any]) -> None:
        extra = nn.modules.module._EXTRA_STATE_KEY_SUFFIX  # what a user's module keeps beside its tensors
        self._beside = {
            name for name, value in state.items() if name.split(".")[-1] == extra or not isinstance(value, Tensor)
        }
        self.example: dict[str, Tensor] = {}
        for name, value in self.tensors(state).items():
            self.example[name] = value  # saving will refuse it if it is not strided
            if value.layout is torch.strided:  # an example takes no memory
                self.example[name] = torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device="meta")

    def tensors(self, state: Mapping[str, Any]) -> dict[str, Any]:
        """Return a state's tensors; what a user's module keeps beside them is handed to it."""
        return {name: value for name, value in state.items() if name not in self._beside}


def check_kept(state: Mapping[str, object], wanted: Mapping[str, object]) -> None:
    """Refuse to save a network whose state has another form than when it was built, see :attr:`Form.example`.

    Raises:
        PairsLitError: Something was added, left out or changed in form; no command could load what would be saved.
    """
    for name in sorted(state.keys() | wanted.keys()):
        if not fits(state.get(name), wanted.get(name)):
            raise PairsLitError(
                f"no checkpoint could be gone on from: the network's {name} is {_form(state.get(name))}, and was "
                f"{_form(wanted.get(name))} when it was built. Make it in the constructor, of its final shape and type."
            )


def _form(value: object) -> str:
    if value is None:
        return "not there"
    if not isinstance(value, Tensor) or value.layout is not torch.strided:
        return f"a {type(value).__name__} that is no dense tensor"
    layout = "" if value.is_contiguous() else f" with strides {value.stride()}"
    return f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}{layout}"


Group = tuple[OptimizerCallable, Sequence[nn.Parameter]]
"""What makes an optimizer with the settings of a group, and the parameters of that group."""


def optimizer_state(saved: object, groups: Sequence[Group]) -> dict[str, Any]:
    """Return the state that a checkpoint holds of the one optimizer, with the settings that the config gives it.

    Args:
        saved: A list of one state.
        groups: The groups of what it will train; parameters that no loss reaches have no state.

    Raises:
        PairsLitError: The state is not one that this optimizer keeps of these parameters.
    """
    match saved:
        case [{"state": dict(state)}]:
            pass
        case _:
            state = {"no state": saved}  # which nothing fits
    every = [wanted for make, parameters in groups for wanted in _kept(make, parameters)]
    check_form("optimizer's state is", state, {index: wanted for index, wanted in enumerate(every) if index in state})
    settings = [make(parameters).state_dict()["param_groups"][0] for make, parameters in groups]
    numbers = iter(range(len(every)))
    param_groups = [
        {**group, "params": list(islice(numbers, len(parameters)))}
        for group, (_, parameters) in zip(settings, groups, strict=True)
    ]
    return {"state": state, "param_groups": param_groups}


def _kept(make: OptimizerCallable, parameters: Sequence[nn.Parameter]) -> list[dict[str, Any]]:
    """Return what an optimizer keeps of each parameter that it trains."""
    sample = nn.Parameter(torch.zeros(2, 3))
    sample.grad = torch.zeros(2, 3)
    optimizer = make([sample])
    optimizer.step()  # shows what it keeps
    kept = dict(optimizer.state[sample])
    like = [name for name, value in kept.items() if isinstance(value, Tensor) and value.dim() == 2]
    return [kept | dict.fromkeys(like, parameter) for parameter in parameters]


def check_progress(saved: object, curves: Mapping[str, Tensor]) -> None:
    """Refuse what a checkpoint holds of the rounds' progress where it is not that of the epoch at hand.

    The curves to be like are (epochs, R) each.

    Raises:
        PairsLitError: It has another form, or names as commits what are none.
    """
    match saved:
        case {"commits": list(names)}:
            commits = [name for name in names if name is None or is_commit(name)]
        case _:
            commits = []
    check_form("curves are", saved, {"curves": curves, "seconds": 0.0, "commits": commits})
