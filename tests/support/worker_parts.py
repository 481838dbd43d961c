"""What people write, and what goes wrong with it in one worker alone."""

import os
import signal
import time

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn

from pairs_lit.errors import PairsLitError


def happens(kind: str) -> None:
    """Go wrong, but in no worker other than the second."""
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
    """One that cannot be unpickled: it is built from two arguments and holds one."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(f"{first} {second}")


class Moody(nn.Module):
    """A network that goes wrong while it trains; a branch on a value keeps it out of a stack."""

    def __init__(self, shape: tuple[int, int, int], kind: str = "raise") -> None:
        super().__init__()
        self.layer = nn.Linear(shape[1] * shape[2], 10)
        self.kind = kind

    def forward(self, x: Tensor) -> Tensor:
        if self.training and x.isfinite().all():
            happens(self.kind)
        return self.layer(x.flatten(1))


class MoodyCallback(Callback):
    """A callback that goes wrong, before the workers have met or at the end of an epoch."""

    def __init__(self, kind: str = "raise", early: bool = False) -> None:
        self.kind = kind
        self.early = early

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if self.early:
            happens(self.kind)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        happens(self.kind)


class Announces(Callback):
    """Announces the end of the job in one worker's second epoch, as Slurm would; not where it was queued again."""

    def __init__(self, rank: int = 0) -> None:
        self.rank = rank

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        again = os.environ.get("SLURM_RESTART_COUNT", "0") != "0"
        if trainer.global_rank == self.rank and trainer.current_epoch == 1 and not again:
            os.kill(os.getpid(), signal.SIGUSR1)


class Slow(Callback):
    """Lets an epoch take a while."""

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        time.sleep(0.1)


class Counts(Callback):
    """Counts epochs."""

    def __init__(self) -> None:
        self.epochs = 0

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.epochs += 1
