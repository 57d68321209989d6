"""What a stranger's pickle said, as plain dictionaries, lists, strings, numbers and tensors.

Configurations of omegaconf become their content, namespaces their attributes, enumerations their value.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

from torch import Tensor

from superbench_upstreams.checkpoints.unpickling import Held, Members, Opaque


class Plain:
    """Turns what an `Unpickler` gave into dictionaries, lists, strings, numbers and tensors."""

    def __init__(self, read: Callable[[Any], Tensor]) -> None:
        self._read = read
        self._known: dict[int, tuple[Any, Any]] = {}  # by id; the object is kept so that its id stays its own

    def __call__(self, value: Any) -> Any:
        if value is None or isinstance(value, (bool, int, float, str, bytes)):
            return value
        if id(value) in self._known:
            if self._known[id(value)][1] is self:
                raise pickle.UnpicklingError("it holds something that holds itself")
            return self._known[id(value)][1]
        self._known[id(value)] = (value, self)
        result = self._convert(value)
        self._known[id(value)] = (value, result)
        return result

    def _convert(self, value: Any) -> Any:
        if isinstance(value, (Held, Tensor)):
            return self._read(value)
        if isinstance(value, dict):
            return {self._key(k): self(v) for k, v in value.items()}
        if isinstance(value, (list, tuple, set, frozenset, Members)):
            return [self(v) for v in (value.members if isinstance(value, Members) else value)]
        if isinstance(value, Opaque):
            return self._say(value)
        return ".".join(value.origin) if isinstance(value, type) and issubclass(value, Opaque) else None

    def _key(self, key: Any) -> Any:
        key = self(key)
        return key if isinstance(key, (str, int, float, bool, bytes, type(None))) else str(key)

    def _say(self, value: Opaque) -> Any:
        """The state of an object; of one without a state, what it was made of."""
        module, name = value.origin
        state = value.state if isinstance(value.state, dict) else {}
        if module.startswith("omegaconf"):
            said = self(state["_content"] if "_content" in state else state.get("_val"))
        elif module.startswith("pathlib"):
            said = "/".join(str(self(part)) for part in value.args)
        elif name == "encode":  # bytes, as Python 3 wrote them for Python 2: text, and "latin1"
            said = str(value.args[0]).encode("latin1")
        elif name == "scalar":
            said = self._scalar(*value.args)
        elif value.entries:
            said = {self._key(k): self(v) for k, v in value.entries}
        elif value.items:
            said = [self(v) for v in value.items]
        elif value.state is not None:
            said = self(value.state)
        else:  # a member of an enumeration is made of its value
            said = self(value.args[0]) if len(value.args) == 1 else [self(v) for v in value.args]
        return said

    def _scalar(self, kind: Any, data: Any) -> Any:
        """A number of numpy: its type's code, such as "f8", and its bytes."""
        import numpy as np

        code = kind.args[0] if isinstance(kind, Opaque) and kind.args else None
        data = self(data)
        if not (isinstance(code, str) and code[:1] in "biuf" and code[1:].isdigit() and isinstance(data, bytes)):
            raise pickle.UnpicklingError("it holds a number of numpy that is none")
        return np.frombuffer(data, dtype=np.dtype(code), count=1)[0].item()
