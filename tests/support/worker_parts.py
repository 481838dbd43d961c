"""User modules and callbacks that fail in one worker only, or send signals."""

import os
import signal
import time

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn

from pairs_lit.errors import PairsLitError


def fail_in_second_worker(kind: str) -> None:
    """Fail in the second worker, and do nothing in all others."""
    if os.environ.get("LOCAL_RANK") != "1":
        return
    match kind:
        case "raise":
            raise ArithmeticError("the second worker\nhas no idea")
        case "refuse":
            raise SpecialError("leave", "it out")
        case "segfault":
            os.kill(os.getpid(), signal.SIGSEGV)
        case "exit":
            os._exit(7)
        case "sleep":
            time.sleep(600)


class SpecialError(PairsLitError):
    """An error that cannot be unpickled, because its constructor takes two arguments and it stores one."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(f"{first} {second}")


class Moody(nn.Module):
    """A network that fails in training; a branch on a value makes it a loop of copies."""

    def __init__(self, shape: tuple[int, int, int], kind: str = "raise") -> None:
        super().__init__()
        self.layer = nn.Linear(shape[1] * shape[2], 10)
        self.kind = kind

    def forward(self, x: Tensor) -> Tensor:
        if self.training and x.isfinite().all():
            fail_in_second_worker(self.kind)
        return self.layer(x.flatten(1))


class MoodyCallback(Callback):
    """A callback that fails before the workers have met or at the end of an epoch."""

    def __init__(self, kind: str = "raise", early: bool = False) -> None:
        self.kind = kind
        self.early = early

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if self.early:
            fail_in_second_worker(self.kind)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        fail_in_second_worker(self.kind)


class Announces(Callback):
    """Sends SIGUSR1 to one worker in its second epoch, as Slurm does before a job ends; not in a requeued job."""

    def __init__(self, rank: int = 0) -> None:
        self.rank = rank

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        is_requeued = os.environ.get("SLURM_RESTART_COUNT", "0") != "0"
        if trainer.global_rank == self.rank and trainer.current_epoch == 1 and not is_requeued:
            os.kill(os.getpid(), signal.SIGUSR1)


class Slow(Callback):
    """Makes each epoch last at least a tenth of a second."""

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        time.sleep(0.1)


class Counts(Callback):
    """Counts epochs."""

    def __init__(self) -> None:
        self.epochs = 0

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.epochs += 1
