"""superbench: how good is my speech encoder?"""

__version__ = "0.1.0"
