"""Spin, R-Spin and DC-Spin: an encoder whose frames are projected onto a sphere, with codewords on it.

Shapes: B utterances, T frames, D width of the encoder, E width of the projection, K codewords.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch.nn.functional as F
from torch import Tensor, nn

from superbench.errors import PluginError
from superbench_upstreams.encoder import Encoded
from superbench_upstreams.frozen import Method, Output, linear

if TYPE_CHECKING:
    from superbench_upstreams.checkpoints import Checkpoint


class Codebook(nn.Module):
    """A linear head onto the unit sphere, and the codewords there; `name` is led by these in a checkpoint's tensors."""

    def __init__(self, extras: Mapping[str, Tensor], *, name: str = "", temperature: float) -> None:
        super().__init__()
        self.head = linear(extras, f"{name}head")
        self.words = linear(extras, f"{name}codebook", bias=False)
        self.temperature = temperature

    def project(self, x_BTD: Tensor) -> Tensor:
        """The representation of each frame, of length 1: [B, T, E]."""
        return F.normalize(self.head(x_BTD), dim=-1)

    def logits(self, x_BTD: Tensor) -> Tensor:
        """Similarity to each codeword over the temperature, [B, T, K]."""
        found: Tensor = self.words(self.project(x_BTD)) / self.temperature
        return found

    def codes(self, x_BTD: Tensor) -> Tensor:
        """The nearest codeword of each frame, [B, T, 1]; integers."""
        return self.logits(x_BTD).argmax(dim=-1, keepdim=True)


class Quantised(Method):
    """An encoder with one codebook on one of its layers, the last unless the checkpoint says otherwise."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__(checkpoint)
        layer, temperature = self.settings.get("layer", self.config.layers), self.settings.get("temperature", 1.0)
        if type(layer) is not int or not 0 <= layer <= self.config.layers:
            raise PluginError(f"the checkpoint's codebook is on layer {layer!r:.40}", f"0 to {self.config.layers}")
        if type(temperature) not in (int, float) or not 0 < temperature < math.inf:
            raise PluginError(f"the checkpoint states a temperature of {temperature!r:.40}", "a number above 0")
        self.layer, self.temperature = layer, float(temperature)  # a layer counts as in `Encoded.states`
        self.codebook = Codebook(checkpoint.extras, temperature=self.temperature)

    def outputs(self) -> dict[str, Output]:
        """What the encoder has, and `disentangled`, `logits`, `probabilities` and `codes`."""
        return {"hidden": self._projected_first(), **self._inner(), **self._coded(self.codebook)}

    def _coded(self, codebook: Codebook, prefix: str = "") -> dict[str, Output]:
        words, width = codebook.words.weight.shape

        def at(encoded: Encoded) -> Tensor:
            return encoded.states[self.layer]

        found = {
            "disentangled": Output(widths=(width,), read=lambda e: (codebook.project(at(e)),), needs=("states",)),
            "logits": Output(widths=(words,), read=lambda e: (codebook.logits(at(e)),), needs=("states",)),
            "probabilities": Output(
                widths=(words,), read=lambda e: (codebook.logits(at(e)).softmax(dim=-1),), needs=("states",)
            ),
            "codes": Output(widths=(1,), read=lambda e: (codebook.codes(at(e)),), needs=("states",), integers=True),
        }
        return {prefix + name: output for name, output in found.items()}


class DoublyQuantised(Quantised):
    """DC-Spin: a primary codebook, whose codes are the tokens, and an auxiliary one with a head of its own."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__(checkpoint)
        self.auxiliary = Codebook(checkpoint.extras, name="auxiliary_", temperature=self.temperature)

    def outputs(self) -> dict[str, Output]:
        """What Spin has, of the primary codebook, and the same of the auxiliary one as `auxiliary_codes` and so on."""
        return {**super().outputs(), **self._coded(self.auxiliary, "auxiliary_")}
