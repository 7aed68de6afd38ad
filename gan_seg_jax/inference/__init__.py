"""A trained run in use: load it, label images of any size with it, the options of doing so."""
