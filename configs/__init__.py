"""Configs: one file per method, over the shared fields of `common`."""
