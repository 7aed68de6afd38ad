"""What a command asks of its machine: files, the process and its signals, faults, progress on the terminal.

Nothing here knows of networks or runs, and nothing heavy is imported.
"""
