"""What a checkpoint states of itself, value by value, each of the type that it must have."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from superbench.errors import PluginError
from superbench_upstreams.checkpoints.wording import shown
from superbench_upstreams.convolution import ConvLayer

LARGEST = 64  # convolutions
LONGEST = 4096  # characters of an expression that says them; published ones have 60


@dataclass(frozen=True)
class Stated:
    """The settings of one file. A key that is absent has its maker's default, which the caller gives."""

    values: Mapping[str, Any]
    path: Path

    def flag(self, key: str, default: bool) -> bool:
        value = self._value(key, default)
        if not isinstance(value, bool):
            raise self._wrong(key, "true or false")
        return value

    def whole(self, key: str, default: int) -> int:
        value = self._value(key, default)
        if isinstance(value, bool) or not isinstance(value, int):
            raise self._wrong(key, "a whole number")
        return value

    def number(self, key: str, default: float) -> float:
        value = self._value(key, default)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise self._wrong(key, "a number")
        try:
            return float(value)
        except OverflowError as error:
            raise self._wrong(key, "a number") from error

    def word(self, key: str, default: str) -> str:
        value = self._value(key, default)
        if not isinstance(value, str):
            raise self._wrong(key, "a word")
        return value

    def require(self, key: str, *allowed: object) -> None:
        """Raise `PluginError` where `key` is stated and is none of `allowed`: it would change what is computed."""
        value = self.values.get(key, allowed[0])
        if not any(type(value) is type(a) and value == a for a in allowed):
            raise PluginError(
                f"{self.path} states {key}: {shown(value)}, which the encoder here does not compute "
                f"(it computes {' or '.join(repr(a) for a in allowed)})",
                "give a checkpoint without it, or write an upstream of your own (upstreams/README.md)",
            )

    def conv_layers(self, key: str, default: str) -> tuple[ConvLayer, ...]:
        """Channels, kernel and stride of each convolution, from text such as "[(512,10,5)] + [(512,3,2)] * 4"."""
        value = self._value(key, default)
        try:
            layers = _parse(value) if isinstance(value, str) else value
            found = tuple((_whole(c), _whole(k), _whole(s)) for c, k, s in layers)
        except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError) as error:
            raise self._wrong(key, "a list of (channels, kernel, stride)") from error
        if not 0 < len(found) <= LARGEST or min(min(layer) for layer in found) < 1:
            raise self._wrong(key, "a list of (channels, kernel, stride), all at least 1")
        return found

    def _value(self, key: str, default: Any) -> Any:
        value = self.values.get(key)
        return default if value is None else value

    def _wrong(self, key: str, wanted: str) -> PluginError:
        return PluginError(
            f"{self.path} states {key}: {shown(self.values.get(key))}, where {wanted} must be",
            "download or copy the checkpoint again, or correct its configuration",
        )


def _whole(value: Any) -> int:
    if type(value) is not int:
        raise TypeError("not a whole number")
    return value


def _parse(text: str) -> Any:
    if len(text) > LONGEST:
        raise ValueError("an expression of so many characters is none of convolutions")
    return _evaluate(ast.parse(text, mode="eval").body)


def _evaluate(node: ast.expr) -> Any:
    """Whole numbers, tuples and lists of them, sums of lists, and lists times a number; nothing else.

    A list longer than any encoder's is refused before it is made.
    """
    if isinstance(node, ast.Constant) and type(node.value) is int:
        return node.value
    if isinstance(node, (ast.List, ast.Tuple)):
        return [_evaluate(item) for item in node.elts]
    if isinstance(node, ast.BinOp):
        left, right = _evaluate(node.left), _evaluate(node.right)
        if isinstance(node.op, ast.Add) and isinstance(left, list) and isinstance(right, list):
            return _bounded(len(left) + len(right)) and left + right
        if isinstance(node.op, ast.Mult) and isinstance(left, int):
            left, right = right, left
        if isinstance(node.op, ast.Mult) and isinstance(left, list) and isinstance(right, int):
            return _bounded(len(left) * right) and left * right
    raise ValueError("not a list of numbers")


def _bounded(length: int) -> bool:
    if not 0 < length <= LARGEST:
        raise ValueError("not as many convolutions as an encoder has")
    return True
