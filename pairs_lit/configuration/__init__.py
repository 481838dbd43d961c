"""From YAML and options to objects: the LightningCLI, its parser and its messages."""
