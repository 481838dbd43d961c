"""Callback that saves the configuration of a fit in its run folder."""

from pathlib import Path

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.cli import SaveConfigCallback

from pairs_lit.checkpoints.files import find_run
from pairs_lit.runs.run_folder import save_config
from pairs_lit.system.lightning_hooks import skip_batch_hooks


@skip_batch_hooks
class RunConfig(SaveConfigCallback):
    """Callback that writes the resolved configuration to the run folder once the checkpoint has been validated."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Skip Lightning's own writing, which comes too early."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write ``config.yaml`` atomically, without ``ckpt_path``; keep the previous file if the fit was resumed."""
        config = self.config.clone()
        config.ckpt_path = None
        text = self.parser.dump(config, skip_unset=False, skip_validation=True)
        folder = Path(str(trainer.log_dir))
        if trainer.is_global_zero:
            resumed_run = None if trainer.ckpt_path is None else find_run(Path(str(trainer.ckpt_path)))
            save_config(folder, text, trainer.current_epoch, resumed_run)
