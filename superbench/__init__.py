"""superbench: how good is my speech encoder?

`run` scores an upstream on a task; `load_upstream` gives its layer-wise features. Nothing heavy is loaded at import.
"""

from superbench.api import load_upstream, run
from superbench.contracts import Layers, Result, Score
from superbench.errors import SuperbenchError
from superbench.version import __version__

__all__ = ["Layers", "Result", "Score", "SuperbenchError", "__version__", "load_upstream", "run"]
