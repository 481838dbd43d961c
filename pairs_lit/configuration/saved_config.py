"""The configuration in the run folder of a fit."""

from pathlib import Path

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.cli import SaveConfigCallback

from pairs_lit.checkpoints.files import own_run
from pairs_lit.runs.run_folder import keep_config
from pairs_lit.system.lightning_hooks import spares_batches


@spares_batches
class RunConfig(SaveConfigCallback):
    """Writes the resolved configuration to the run folder of a fit, once its checkpoint has proved to match."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Write nothing yet."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write ``config.yaml`` durably, without the checkpoint that this fit may go on from; keep a former one."""
        config = self.config.clone()
        config.ckpt_path = None
        text = self.parser.dump(config, skip_unset=False, skip_validation=True)
        folder = Path(str(trainer.log_dir))
        if trainer.is_global_zero:
            before = None if trainer.ckpt_path is None else own_run(Path(str(trainer.ckpt_path)))
            keep_config(folder, text, trainer.current_epoch, before)
