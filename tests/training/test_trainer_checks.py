from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch import Trainer, callbacks

from pairs_lit.errors import PairsLitError
from pairs_lit.training import trainer_checks
from pairs_lit.training.optimization import build_optimizer
from pairs_lit.training.optimizers import PER_ELEMENT_OPTIMIZERS, check_optimizer, check_scheduler, prefer_fused
from pairs_lit.training.recipes import Recipe
from pairs_lit.training.trainer_checks import check_equal_stacks, check_trainer

QUIET = {
    "accelerator": "cpu",
    "devices": 1,
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "num_sanity_val_steps": 0,
}


def _parameters() -> list[torch.nn.Parameter]:
    return [torch.nn.Parameter(torch.zeros(3))]


@pytest.mark.parametrize("kind", PER_ELEMENT_OPTIMIZERS)
def test_per_element_optimizers_are_allowed(kind: type[torch.optim.Optimizer]) -> None:
    check_optimizer(kind(_parameters(), lr=0.1))


@pytest.mark.parametrize("kind", PER_ELEMENT_OPTIMIZERS)
def test_an_allowed_optimizer_updates_each_element_by_itself(kind: type[torch.optim.Optimizer]) -> None:
    def train(gradients: torch.Tensor) -> torch.Tensor:
        weights = torch.nn.Parameter(torch.ones(gradients.shape[1]))
        optimizer = kind([weights], lr=0.1, weight_decay=0.01)
        for gradient in gradients:
            weights.grad = gradient.clone()
            optimizer.step()
        return weights.detach()

    gradients = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    changed = gradients.clone()
    changed[:, 2] = 1e6
    unaffected = [0, 1, 3]
    assert torch.equal(train(changed)[unaffected], train(gradients)[unaffected])


@pytest.mark.parametrize("kind", [torch.optim.LBFGS, torch.optim.ASGD, torch.optim.Rprop])
def test_other_optimizers_are_rejected(kind: type[torch.optim.Optimizer]) -> None:
    with pytest.raises(PairsLitError, match=f"model.optimizer is {kind.__name__}, which may couple rounds"):
        check_optimizer(kind(_parameters()))


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("Muon", "it orthogonalises whole matrices, and those of all rounds lie in one tensor"),
        ("Adafactor", "it scales its steps by norms of whole tensors"),
        ("LBFGS", "it searches along one direction for the parameters of all rounds"),
        ("SparseAdam", "it is for sparse gradients"),
        ("Rprop", "it is not known to update each element by itself"),
    ],
)
def test_error_gives_the_reason_why_an_optimizer_is_rejected(name: str, reason: str) -> None:
    if not hasattr(torch.optim, name):
        pytest.skip(f"{name} does not exist in this release of torch")
    recipe = Recipe(getattr(torch.optim, name), None)
    with pytest.raises(
        PairsLitError, match=rf"model.optimizer is {name}, which may couple rounds \({reason}.*\. Use one of"
    ):
        build_optimizer([(make, [torch.nn.Parameter(torch.zeros(2, 3, 4))]) for make in recipe.optimizer_factories])


def test_a_subclass_of_an_allowed_optimizer_is_rejected() -> None:
    class Mine(torch.optim.SGD):
        pass

    with pytest.raises(PairsLitError, match=r"model.optimizer is Mine"):
        check_optimizer(Mine(_parameters(), lr=0.1))


def test_epoch_schedulers_are_allowed() -> None:
    optimizer = torch.optim.SGD(_parameters(), lr=0.1)
    check_scheduler(torch.optim.lr_scheduler.StepLR(optimizer, 1))
    check_scheduler(torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10))


def test_a_plateau_scheduler_is_rejected() -> None:
    optimizer = torch.optim.SGD(_parameters(), lr=0.1)
    with pytest.raises(PairsLitError, match="ReduceLROnPlateau, which would couple rounds"):
        check_scheduler(torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer))


def test_a_plain_trainer_is_allowed() -> None:
    check_trainer(Trainer(max_epochs=1, **QUIET))


def test_a_trainer_without_max_epochs_is_rejected() -> None:
    with pytest.raises(PairsLitError, match=r"trainer.max_epochs must be 1 or more, got -1"):
        check_trainer(Trainer(max_epochs=-1, **QUIET))


def test_accumulating_gradients_on_a_schedule_is_rejected() -> None:
    trainer = Trainer(max_epochs=1, callbacks=[callbacks.GradientAccumulationScheduler({1: 2})], **QUIET)
    with pytest.raises(PairsLitError, match="the callback GradientAccumulationScheduler would couple rounds"):
        check_trainer(trainer)


def test_half_precision_with_a_common_scaler_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = Trainer(max_epochs=1, **QUIET)
    monkeypatch.setattr(Trainer, "precision", "16-mixed")
    with pytest.raises(PairsLitError, match=r"trainer.precision is 16-mixed"):
        check_trainer(trainer)


def test_workers_on_gpus_must_form_the_same_stacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer_checks, "gather_parts", lambda trainer, size: [size, 10])
    cpu, gpu = (SimpleNamespace(strategy=SimpleNamespace(root_device=torch.device(name))) for name in ("cpu", "cuda"))
    check_equal_stacks(gpu, 10)
    check_equal_stacks(cpu, 5)
    with pytest.raises(PairsLitError, match=r"rounds\.stack_size must be equal in all workers, got 5, 10: their GPUs"):
        check_equal_stacks(gpu, 5)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_fused_kernels_are_used_where_every_torch_release_has_them(device: str) -> None:
    for kind in PER_ELEMENT_OPTIMIZERS:
        optimizer = kind(_parameters(), lr=0.1)
        can_fuse = "fused" in optimizer.param_groups[0] and (device == "cpu" or kind is not torch.optim.Adagrad)
        optimizer.param_groups[0]["params"] = [SimpleNamespace(device=torch.device(device))]
        prefer_fused(optimizer)
        assert bool(optimizer.param_groups[0].get("fused")) is can_fuse
