"""The command line: one module per command. Heavy packages are imported inside the commands."""
