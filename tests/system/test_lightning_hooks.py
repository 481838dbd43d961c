import pytest
from lightning.pytorch import Callback, LightningModule, Trainer

from pairs_lit.system.lightning_hooks import NoProfiler, skip_batch_hooks


def test_only_empty_hooks_are_skipped() -> None:
    @skip_batch_hooks
    class Counts(Callback):
        def on_train_batch_end(self, *_: object) -> None: ...

    assert callable(Counts().on_train_batch_end)
    assert Counts().on_train_batch_start is None
    assert callable(Counts().on_train_epoch_end)
    assert callable(Callback().on_train_batch_start)


def test_lightning_skips_hooks_that_are_none() -> None:
    @skip_batch_hooks
    class Spared(Callback):
        def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None: ...

    from lightning.pytorch.trainer.call import _call_callback_hooks

    trainer = Trainer(callbacks=[Spared()], logger=False, enable_checkpointing=False, accelerator="cpu", devices=1)
    _call_callback_hooks(trainer, "on_train_batch_start", None, 0)


def test_no_profiler_propagates_exceptions() -> None:
    profiler = NoProfiler()
    with pytest.raises(ValueError, match="shows"), profiler.profile("a step"), profiler.profile("within"):
        raise ValueError("shows")
