"""Can a task's protocol be run? What a plugin states is looked at before anything is opened."""

from __future__ import annotations

import math
from typing import Any, get_args, get_type_hints

from superbench.contracts import PartSize
from superbench.errors import ContractError, did_you_mean
from superbench.metrics import METRICS, OF_CLASSES
from superbench.plugin import SpecAugment, TaskProtocol, TaskSpec

LOUDEST_DB = 60.0  # of a gain: more turns any recording into silence or into what no encoder was made for


def check_protocol(spec: TaskSpec) -> None:
    """Refuse constants of the wrong kind, then constants that do not go together, all of each at once."""
    own = spec.protocol
    wrong = _not_numbers(own)
    if wrong:
        raise ContractError(f"task {spec.name}: its protocol cannot be run: {'; '.join(wrong)}", "mend its plugin")
    wrong = [f"metric {m!r}: {did_you_mean(m, METRICS)}" for m in own.metrics if m not in METRICS]
    wrong += [] if own.metrics else ["no metric"]
    kinds = get_type_hints(TaskProtocol)
    for name in ("objective", "sampling", "dev_sampling", "optimizer", "schedule", "selection"):
        given, known = getattr(own, name), get_args(kinds[name])
        wrong += [] if given in known else [f"{name} {given!r}: {did_you_mean(given, known)}"]
    odd = [m for m in own.metrics if m in METRICS and (m in OF_CLASSES) != (own.objective == "cross_entropy")]
    wrong += [f"metric {m!r} is not for objective {own.objective!r}" for m in odd]
    if own.objective == "ctc" and "balanced" in (own.sampling, own.dev_sampling):
        wrong.append("balanced sampling is of classes, and CTC has none")
    if own.objective != "ctc" and own.augment is not None:
        wrong.append("augment masks frames, and only CTC trains on frames")
    counts = {n: getattr(own, n) for n in ("steps", "batch", "accumulate", "eval_every", "sample_rate")}
    wrong += [f"{name} is {value}: at least 1" for name, value in counts.items() if value < 1]
    wrong += [] if own.lr_grid and all(0 < lr < float("inf") for lr in own.lr_grid) else [f"lr_grid {own.lr_grid}"]
    wrong += [] if own.clip > 0 else [f"clip is {own.clip}: above 0"]
    wrong += [] if abs(own.gain_db) <= LOUDEST_DB else [f"gain_db is {own.gain_db}: at most {LOUDEST_DB:g} up or down"]
    if own.halve_above is not None and (own.halve_above <= 0 or own.sampling != "label_windows"):
        wrong.append(f"halve_above is {own.halve_above} with {own.sampling}: above 0, and with label_windows alone")
    if wrong:
        raise ContractError(f"task {spec.name}: its protocol cannot be run: {'; '.join(wrong)}", "mend its plugin")


def _not_numbers(protocol: TaskProtocol) -> list[str]:
    """Constants that are not of the kind they must be."""
    whole = ("steps", "batch", "accumulate", "eval_every", "sample_rate", "dev_seed")
    real = ("clip", "gain_db", "halve_above", "must_beat")
    optional = ("halve_above", "must_beat")
    wrong = [f"{n} is {v!r}: a whole number" for n in whole if type(v := getattr(protocol, n)) is not int]
    for name in real:
        value = getattr(protocol, name)
        if not (_is_real(value) or (value is None and name in optional)):
            wrong.append(f"{name} is {value!r}: a finite number")
    if not (isinstance(protocol.lr_grid, tuple) and all(map(_is_real, protocol.lr_grid))):
        wrong.append(f"lr_grid is {protocol.lr_grid!r}: a tuple of numbers")
    if not (isinstance(protocol.metrics, tuple) and all(isinstance(m, str) for m in protocol.metrics)):
        wrong.append(f"metrics are {protocol.metrics!r}: a tuple of names")
    if type(protocol.head) is not str:
        wrong.append(f"head is {protocol.head!r}: a text, such as 'pooled_linear'")
    if not (isinstance(protocol.sizes, tuple) and all(isinstance(s, PartSize) for s in protocol.sizes)):
        wrong.append(f"sizes are {protocol.sizes!r:.80}: a tuple of PartSize")
    if type(protocol.augment) not in (SpecAugment, type(None)):
        wrong.append(f"augment is {protocol.augment!r}: a SpecAugment, or None")
    return wrong


def _is_real(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
