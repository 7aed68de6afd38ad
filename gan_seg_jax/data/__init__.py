"""Data sets: facts (`catalog`), readers (`folder`, `scenes`, `tfds_reader`) and what feeds batches (`pipeline`)."""
