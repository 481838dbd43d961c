import pickle

import torch

from pairs_lit.system.torch_settings import TorchSettings


def test_settings_of_one_process_are_applied_in_another() -> None:
    before = TorchSettings.capture()
    changed = TorchSettings(before.threads, torch.float64, "medium", is_deterministic=True)
    try:
        pickle.loads(pickle.dumps(changed)).apply()
        assert torch.zeros(1).dtype == torch.float64
        assert TorchSettings.capture() == changed
    finally:
        before.apply()
    assert TorchSettings.capture() == before
