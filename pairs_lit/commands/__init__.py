"""Commands of the command line, one module per command."""

COMMANDS = {
    "fit": "train all rounds side by side, evaluate them after each epoch and show mean ± std",
    "validate": "evaluate a trained run on its validation pairs",
    "test": "evaluate a trained run on its test pairs",
    "predict": "write the predictions of every round for the test pairs of the first seed",
    "sweep": "try many option values with the same seeds and confirm the best ones on fresh seeds",
    "apply": "predict your own image pairs with every round of a run",
    "demo": "draw two digits in the browser and see the prediction of each round",
    "inspect": "analyse the errors of a finished run, in a report with figures and in TensorBoard",
    "export": "export the network of each round to ONNX, torch.export or safetensors",
    "compare": "compare finished runs in a table and a figure, with tests paired by seed",
    "configs": "list the bundled configs, which --config takes by name",
    "completion": "print a script for shell completion of commands and options",
    "reproduce": "train every row of the five student reports and compare the results with the published ones",
}
"""One-line description of each command."""

LIGHTNING_COMMANDS = ("fit", "validate", "test", "predict")
"""Commands that the LightningCLI runs. The module of each other command has ``build_parser()`` and ``run(args)``."""
