"""Real schedulers for tests: each on a private directory and free ports, several at once, gone without a trace."""
