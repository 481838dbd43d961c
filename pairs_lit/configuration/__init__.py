"""Configuration: the LightningCLI, its parser, checks of options, and error messages."""
