"""What `train.py` needs around its loop: where a run starts from, the checks before it, its scores and report."""
