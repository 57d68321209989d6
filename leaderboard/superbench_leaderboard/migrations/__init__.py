"""The ordered list of schema changes, run by Alembic when an older database is opened."""
