"""The commands: the only modules that see argv, cwd and the clock, that print and set exit codes."""
