"""The commands, each in a file of its own."""

COMMANDS = {
    "fit": "train all rounds side by side, evaluate them after each epoch, show mean ± std",
    "validate": "evaluate a trained run on its validation pairs",
    "test": "evaluate a trained run on its test pairs",
    "predict": "write P(relation) of every round for the test pairs of the first seed",
    "sweep": "try many values of options with the same seeds, confirm the best on fresh seeds",
    "apply": "say what each round of a finished run says of pairs of your own pictures",
    "demo": "draw two digits in the browser and see what each round of a finished run says",
    "inspect": "show what the rounds of a finished run get wrong, on a page with figures and in TensorBoard",
    "export": "write the network of each round for other tools: ONNX, torch.export, safetensors",
    "compare": "compare finished runs in a table and a figure, seed by seed where they share seeds",
    "configs": "list the configs that come with pairs-lit, for --config",
    "completion": "print a script that lets a shell complete commands and options",
    "reproduce": "train every row of the five student reports, write tables and figures beside the published ones",
}
"""What each command does, in a line."""

OF_LIGHTNING = ("fit", "validate", "test", "predict")
"""The commands of the LightningCLI; each other one is a file with ``parser()`` and ``run(args)``."""
