"""Trained networks as files that other programs read: what is exported, and a module for each format."""
