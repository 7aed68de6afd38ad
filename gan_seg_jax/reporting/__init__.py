"""A run, and several beside each other, as pages to be looked at."""
