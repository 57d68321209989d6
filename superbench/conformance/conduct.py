"""Promises about conduct: what it refuses, and that it changes nothing but what it returns."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from superbench.conformance.modules import modules_of
from superbench.conformance.report import Finding, judged, not_claimed
from superbench.conformance.subject import Subject


def odd_input(subject: Subject) -> Finding:
    """Stereo, empty and too short sounds end with an error, and are never used in silence."""
    wave, fewest = subject.speech.wave, subject.fewest
    cases = {"stereo": wave.repeat(2, 1), "empty": wave[:0], "1 sample": wave[:1], f"{fewest - 1} samples": None}
    refusals = {
        name: subject.refusal(subject.wave(fewest - 1) if odd is None else odd)
        for name, odd in cases.items()
        if fewest > 2 or name in ("stereo", "empty") or (name == "1 sample" and fewest > 1)
    }
    accepted = [name for name, refusal in refusals.items() if not refusal]
    return judged(
        "odd input",
        not accepted,
        measured=", ".join(f"{name}: {refusal or 'accepted'}" for name, refusal in refusals.items()),
        limit="an error for each",
        on=f"waves of shapes [2, {len(wave)}], [0], [1], [{fewest - 1}]",
        mend=f"raise a superbench.errors.DataError for what is not [n] or gives no frame: {', '.join(accepted)}",
        accepted=len(accepted),
    )


def eval_mode(subject: Subject) -> Finding:
    """No torch module that can be reached from it is in training mode."""
    modules = modules_of(subject.upstream)
    training = [f"{name} ({type(module).__name__})" for name, module in modules.items() if module.training]
    shown = f": {', '.join(training[:3])}" if training else ""
    return judged(
        "eval mode",
        not training,
        measured=f"{len(training)} of {len(modules)} modules in training mode{shown}",
        limit="0 modules",
        on="modules reached from the upstream",
        mend="call eval() on the whole model in load",
        training=len(training),
        modules=len(modules),
    )


def no_gradient(subject: Subject) -> Finding:
    """Features carry no graph, even where gradients are on."""
    with torch.enable_grad():
        (tensors,) = subject.call([subject.speech.wave])
    attached = [i for i, t in enumerate(tensors) if t.requires_grad or t.grad_fn is not None]
    parameters = {id(p): p for m in modules_of(subject.upstream).values() for p in m.parameters(recurse=False)}
    free = sum(p.requires_grad for p in parameters.values())
    return judged(
        "no gradient",
        not attached,
        measured=f"{len(attached)} of {len(tensors)} layers carry a graph; "
        f"{free} of {len(parameters)} parameters want a gradient",
        limit="0 layers",
        on=f"{subject.speech.name}, gradients on",
        mend="call requires_grad_(False) on the whole model in load, or compute under torch.no_grad()",
        layers=len(attached),
        parameters=free,
    )


def input_untouched(subject: Subject) -> Finding:
    """The waves are after the call what they were before it."""
    changed, lists, largest = [], [], 0.0
    with torch.no_grad():
        for sound in subject.waves:
            given = sound.wave.clone().to(subject.device)
            waves = [given]
            subject.upstream(waves)
            if len(waves) != 1 or waves[0] is not given:
                lists.append(f"1 wave in, {len(waves)} in it after" if len(waves) != 1 else "another wave in it after")
            kept = given.detach().cpu()
            if kept.shape != sound.wave.shape or not torch.equal(kept, sound.wave):
                changed.append(sound.name)
                if kept.shape == sound.wave.shape:
                    largest = max(largest, float((kept - sound.wave).abs().max()))
    return judged(
        "input untouched",
        not changed and not lists,
        measured=f"{len(changed)} of {len(subject.waves)} waves changed, by up to {largest:.3g}"
        + (f"; the list of waves itself was changed ({lists[0]})" if lists else ""),
        limit="0 waves",
        on=f"{len(subject.waves)} sounds",
        mend="change a copy: no in-place operation (x -= ..., x.mul_(...)) on a wave, nor on the list of waves",
        waves=len(changed),
        lists=len(lists),
        difference=largest,
    )


def global_state(subject: Subject) -> Finding:
    """Random states, threads, default dtype and grad mode are after a call what they were before it."""
    changed: list[str] = []
    for enabled in (True, False):
        with torch.set_grad_enabled(enabled):
            before = dict(_state(subject.device))
            subject.upstream([subject.waves[0].wave.clone().to(subject.device)])
            after = dict(_state(subject.device))
        changed += [name for name, value in before.items() if value != after[name] and name not in changed]
    return judged(
        "global state",
        not changed,
        measured=f"changed: {', '.join(changed) or 'nothing'}",
        limit="nothing",
        on=f"{subject.waves[0].name}, gradients on and off",
        mend="draw random numbers from a torch.Generator of your own, and set threads, dtype and grad mode nowhere",
        changed=len(changed),
    )


def weights_sha(subject: Subject) -> Finding:
    """The hash that it states of its weights is one, and running does not change it."""
    limit = "64 hexadecimal digits, the same after a call"
    if not hasattr(subject.upstream, "weights_sha"):
        return not_claimed("weights_sha", limit=limit, why="weights_sha is not stated: known by its behaviour")
    before = subject.upstream.weights_sha
    subject.alone(subject.waves[0].wave)
    after = subject.upstream.weights_sha
    good = isinstance(before, str) and re.fullmatch(r"[0-9a-f]{64}", before) is not None
    return judged(
        "weights_sha",
        good and before == after,
        measured=f"{before!s:.8}..." if before == after else f"{before!s:.8}... before, {after!s:.8}... after",
        limit=limit,
        on=subject.waves[0].name,
        mend="compute a SHA-256 (hex) of weights and settings once, in load",
    )


def _state(device: str) -> Iterator[tuple[str, Any]]:
    kind, keys, *rest = np.random.get_state()
    yield "random state of Python", random.getstate()
    yield "random state of numpy", (kind, np.asarray(keys).tobytes(), tuple(rest))
    yield "random state of torch", torch.get_rng_state().numpy().tobytes()
    if torch.device(device).type == "cuda":
        yield "random state of CUDA", torch.cuda.get_rng_state(device).numpy().tobytes()
    yield "number of threads", torch.get_num_threads()
    yield "default dtype", torch.get_default_dtype()
    yield "grad mode", torch.is_grad_enabled()
