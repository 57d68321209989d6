"""The tasks wing."""
