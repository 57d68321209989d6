"""Plugins of the runs that are struck, as text: one that brings the faults, and one that brings two upstreams."""

from __future__ import annotations

# The plugin that strikes. Before the renaming with half of the content gone, before it, after it, and so on.
FAULTS = """
import errno, fnmatch, json, os, signal, stat
from superbench.plugin import hookimpl

moment, name, number = os.environ.get("FAULT", "never:*:0").split(":")
left = int(number)
full = False
synced = set()
fsync, replace, rename = os.fsync, os.replace, os.rename

def strikes(moments, path):
    global left
    if moment not in moments or not fnmatch.fnmatch(os.path.basename(path), name):
        return False
    left -= 1
    return left == 0

def no_space(path):
    global full
    full = True
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

def end(number):
    os.kill(os.getpid(), number)

def renaming(real):
    def renamed(source, target, **more):
        if "FAULT_LOG" in os.environ:
            facts = {"source": str(source), "target": str(target), "synced": os.stat(source).st_ino in synced}
            with open(os.environ["FAULT_LOG"], "a") as log:
                log.write(json.dumps(facts) + "\\n")
        struck = strikes(("half", "before", "after", "full", "terminate", "pause"), target)
        if full or (struck and moment == "full"):
            no_space(source)
        if struck and moment == "half":
            os.truncate(source, os.path.getsize(source) // 2)
        if struck and moment in ("half", "before"):
            end(signal.SIGKILL)
        if struck and moment == "terminate":
            end(signal.SIGTERM)
        if struck and moment == "pause":
            with open(os.environ["FAULT_GATE"] + ".here", "wb", buffering=0) as here:
                here.write(b".")
            with open(os.environ["FAULT_GATE"] + ".go", "rb", buffering=0) as go:
                go.read(1)
        real(source, target, **more)
        if struck and moment == "after":
            end(signal.SIGKILL)
    return renamed

def syncing(number):
    facts = os.fstat(number)
    if stat.S_ISREG(facts.st_mode):
        if full or strikes(("unsynced",), "*"):
            no_space("a file")
        synced.add(facts.st_ino)
    fsync(number)

os.fsync, os.replace, os.rename = syncing, renaming(replace), renaming(rename)

@hookimpl
def superbench_upstreams():
    return ()
"""

# Four numbers per frame of 20 ms, and their squares: features that cost nothing. `wide` has them 32 times over, more
# than the memory of a run with `--memory 1MiB`.
TINY = """
import functools
from superbench.plugin import Layers, UpstreamSpec, hookimpl

def load(options, device, times=1):
    import torch

    class Tiny:
        sample_rate, strides, widths = 16000, (320, 320), (4 * times, 4 * times)

        def num_frames(self, samples):
            return samples // 320

        def __call__(self, waves):
            found = []
            for wave in waves:
                x = wave[: len(wave) // 320 * 320].view(-1, 320)
                x = 10 * torch.stack((x.abs().mean(1), x.std(1), x.diff().abs().mean(1), x.amax(1)), 1)
                found.append(Layers((x.repeat(1, times), (x * x).repeat(1, times))))
            return found

    return Tiny()

@hookimpl
def superbench_upstreams():
    yield UpstreamSpec(name="tiny", load=load)
    yield UpstreamSpec(name="wide", load=functools.partial(load, times=32))
"""
