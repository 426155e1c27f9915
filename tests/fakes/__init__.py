"""Outside parties for tests: the sandboxes as processes, and a receiver of callbacks."""
