"""The version of superbench; the packaging reads it here."""

__version__ = "0.1.0"
