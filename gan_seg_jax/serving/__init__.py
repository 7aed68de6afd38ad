"""A network behind a page of a browser: what it shows of an image, the page, and its address."""
