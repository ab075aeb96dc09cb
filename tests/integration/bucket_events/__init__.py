"""The four calls of a bucket's events, on the real database and the real log."""
