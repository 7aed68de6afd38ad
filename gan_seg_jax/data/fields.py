"""The fields of a config that say which data are read and how."""

DOMAINS = ("day", "night", "rain", "camera")  # of the embedded scenes, drawn by `data.scenes.domains`
