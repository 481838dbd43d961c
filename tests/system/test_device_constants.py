import pytest
import torch

from pairs_lit.system.device_constants import DeviceConstants

VALUES = [0.1, 0.7, 1 / 3, 0.0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_numbers_are_those_of_a_tensor_made_at_once(dtype: torch.dtype) -> None:
    shaped = DeviceConstants(VALUES).shape_like(torch.zeros(4, 3, 2, dtype=dtype))
    assert torch.equal(shaped, torch.tensor(VALUES, dtype=dtype).view(4, 1, 1))


def test_each_device_and_type_gets_one_copy() -> None:
    constants, cpu = DeviceConstants([3, 2**31]), torch.device("cpu")
    assert constants.copy_to(cpu, torch.int64).tolist() == [3, 2**31]
    assert constants.copy_to(cpu, torch.int64) is constants.copy_to(cpu, torch.int64)
    assert constants.copy_to(torch.device("meta"), torch.float32).is_meta


def test_training_can_use_numbers_that_an_evaluation_has_copied() -> None:
    constants, x = DeviceConstants([2.0]), torch.ones(1, 3, requires_grad=True)
    with torch.inference_mode():
        constants.shape_like(x)
    (x / constants.shape_like(x)).sum().backward()
    assert x.grad.tolist() == [[0.5] * 3]
