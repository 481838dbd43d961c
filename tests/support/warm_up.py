"""Small fits in the server process that test processes are forked from.

The modules that a first fit imports are then already loaded in each test process, which saves a second. There is no
warm-up with a GPU, since autograd's GPU threads do not survive a fork.
"""

import io
import tempfile
from contextlib import redirect_stderr, redirect_stdout

import torch

from pairs_lit.cli import main

torch.set_num_threads(1)

OPTIONS = (
    "--data.source digits --data.train_pairs 10 --data.val_pairs 5 --data.test_pairs 5 --rounds.count 2 "
    "--trainer.max_epochs 1 --trainer.devices 1 --trainer.enable_progress_bar false"
)


def warm_up() -> None:
    silence = io.StringIO()
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(silence), redirect_stderr(silence):
        for config in ("fc_aux", "cnn_aux"):
            main(["fit", "--config", config, *OPTIONS.split(), "--trainer.default_root_dir", folder])


if not torch.cuda.is_available():
    warm_up()
