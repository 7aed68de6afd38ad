"""The folder of a run: its lock and config, checkpoints, logs, pictures; and the signals that end it."""
