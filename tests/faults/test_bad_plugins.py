"""Broken plugins, through the command line: exit code 4 (8 where features are not finite), and who did it is named."""

from __future__ import annotations

import textwrap

import pytest

RUN = "run -q -p {at}/mine.py -u mine -t ks --data {at}/m.csv --steps 2 --lr 1e-2"
MINE = "upstream 'mine' of mine ("
FIRST = "len(waves[0]) not in (16000, 11213)"  # true of the corpus, false of the probe waves
RETURN = "return [Layers((f, f)) for f in x]"
LOADED = "return Mine()"


def when_scored(what):
    """Break it on the sounds of the corpus only, and pass the probes."""
    return f"if {FIRST}:\n                    {what}\n                {RETURN}"


# name: a piece of the good upstream; what stands in its place; the exit code; the words the message must hold
BROKEN = {
    "raises on load": (LOADED, "raise OSError('no weights')", 4, (MINE, "OSError: no weights", "--debug")),
    "exits on load": (LOADED, "raise SystemExit(0)", 4, (MINE, "SystemExit: 0")),
    "loads nothing": (LOADED, "return None", 4, (MINE, "does not state: sample_rate, strides, widths, num_frames")),
    "another rate": ("= 16000,", "= 8000,", 4, (MINE, "wants 8000 Hz", "16000 Hz")),
    "one stride, two widths": ("(320, 320)", "(320,)", 4, (MINE, "1 strides and 2 widths")),
    "no layer": ("(320, 320), (2, 2)", "(), ()", 4, (MINE, "0 strides and 0 widths")),
    "strides that are a number": ("(320, 320), (2, 2)", "320, 2", 4, (MINE, "not iterable")),
    "length rule that raises": ("return samples // 320", "return samples // 0", 4, (MINE, "ZeroDivisionError")),
    "length rule for three layers": (
        "return samples // 320",
        "return [samples // 320] * 3",
        4,
        (MINE, "2 layers", "gives 3 numbers"),
    ),
    "length rule off by one": (
        "return samples // 320",
        "return samples // 320 + 1",
        4,
        (MINE, "[T=51, D=2]", "[50, 2]"),
    ),
    "length rule off by two": ("return samples // 320", "return samples // 320 * 2", 4, (MINE, "[T=100, D=2]")),
    "length rule of nothing": (
        "return samples // 320",
        "return samples // 320 * (samples > 11000)",
        3,
        (MINE, "no frame", "train00"),
    ),
    "raises on a sound": (
        RETURN,
        when_scored("raise ValueError('odd')"),
        4,
        (MINE, " on ", "dev00", "ValueError: odd"),
    ),
    "exits on a sound": (RETURN, when_scored("import sys; sys.exit(0)"), 4, (MINE, " on ", "SystemExit: 0")),
    "raises one of our errors": (
        RETURN,
        when_scored("from superbench.errors import DataError; raise DataError('too quiet')"),
        3,
        (MINE, " on ", "too quiet"),
    ),
    "interprets None": (RETURN, "return None", 4, (MINE, "probe 0", "TypeError")),
    "dictionaries": (RETURN, "return [{0: f} for f in x]", 4, (MINE, "expected superbench.plugin.Layers, got dict")),
    "a bare tensor": (RETURN, "return x", 4, (MINE, "expected superbench.plugin.Layers, got Tensor")),
    "a generator of tensors": (RETURN, "return [Layers(t for t in (f, f)) for f in x]", 4, (MINE, "generator")),
    "NumPy arrays": (RETURN, "return [Layers((f.numpy(), f.numpy())) for f in x]", 4, (MINE, "got ndarray")),
    "one result too few": (RETURN, "return []", 4, (MINE, "1 waves in, 0 results out")),
    "a batch axis": (RETURN, "return [Layers((f[None], f[None])) for f in x]", 4, (MINE, "[T=50, D=2]", "[1, 50, 2]")),
    "time last": (RETURN, "return [Layers((f.T, f.T)) for f in x]", 4, (MINE, "[2, 50]")),
    "one layer too few": (RETURN, "return [Layers((f,)) for f in x]", 4, (MINE, "expected 2 layers", "layerdrop")),
    "one layer wider": (
        RETURN,
        "return [Layers((f, torch.cat((f, f), 1))) for f in x]",
        4,
        (MINE, "layer 1", "[50, 4]"),
    ),
    "another layer count on a sound": (RETURN, when_scored("return [Layers((x[0],))]"), 4, (MINE, "got 1")),
    "integers": (RETURN, "return [Layers((f.long(), f.long())) for f in x]", 4, (MINE, "floating point", "int64")),
    "features where codes are stated": (
        "(320, 320), (2, 2)",
        "(320, 320), (2, 2)\n            integers = True",
        4,
        (MINE, "expected integers, got torch.float32"),
    ),
    "a batch of no samples": (
        "(320, 320), (2, 2)",
        "(320, 320), (2, 2)\n            exact_batches, batch_samples = True, 0",
        4,
        (MINE, "batch_samples = 0"),
    ),
    "gradients": (RETURN, "torch.ones(2, requires_grad=True).sum().backward()", 4, (MINE, "RuntimeError")),
    "NaN on the probes": (RETURN, "return [Layers((f, f / 0 * 0)) for f in x]", 8, (MINE, "probe 0", "layer 1", "NaN")),
    "NaN on a sound": (RETURN, when_scored("x = [f * float('nan') for f in x]"), 8, (MINE, " on ", "NaN or infinite")),
    "infinity on a sound": (RETURN, when_scored("x = [f * float('inf') for f in x]"), 8, (MINE, "NaN or infinite")),
    "out of GPU memory": (
        RETURN,
        when_scored("raise torch.cuda.OutOfMemoryError('2 GiB')"),
        5,
        (MINE, " on ", "GPU memory", "--device cpu"),
    ),
    "out of memory": (RETURN, when_scored("raise MemoryError"), 5, (MINE, " on ", "ran out of memory")),
    "features that overflow": (
        RETURN,
        "return [Layers((f * 1e30, f * 1e30)) for f in x]",
        8,
        ("gradients of every learning rate",),
    ),
    "too long a sound": (
        "def num_frames",
        "max_samples = 20\n\n            def num_frames",
        3,
        (MINE, "at most", "train"),
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_an_upstream_that_breaks_its_contract(case, bench, refused):
    old, new, code, words = BROKEN[case]
    bench.upstream(old, new)
    refused(RUN, code, words)
    assert not list(bench.home.rglob("*.tmp"))


# name: what stands in mine.py; the exit code; the words the message must hold
NOT_EVEN_IN = {
    "raises on import": ("raise RuntimeError('no GPU here')", 4, ("'mine'", "mine.py", "RuntimeError: no GPU here")),
    "does not parse": ("def load(:", 4, ("mine.py", "SyntaxError")),
    "exits on import": ("import sys; sys.exit(3)", 4, ("mine.py", "called sys.exit(3)")),
    "marks no hook": ("def superbench_upstreams():\n    yield 1", 4, ("mine.py", "not marked @hookimpl")),
    "misspells a hook": (
        "from superbench.plugin import hookimpl\n@hookimpl\ndef superbench_upstream():\n    yield 1",
        4,
        ("superbench_upstream", "did you mean 'superbench_upstreams'"),
    ),
}


@pytest.mark.parametrize("case", NOT_EVEN_IN)
def test_a_plugin_that_does_not_come_in_fails_the_runs_that_need_it(case, bench, refused, superbench):
    text, code, words = NOT_EVEN_IN[case]
    bench.write("mine.py", text)
    refused(RUN, code, words)
    listed = superbench("-p", bench.path("mine.py"), "list")
    assert listed.code == 0
    assert "fbank_no_cmvn" in listed.out
    assert "mine.py" in listed.err


def test_layers_that_cannot_be_summed_are_refused_and_one_of_them_scores(bench, refused, superbench):
    bench.upstream("(2, 2)", "(2, 3)")
    bench.write("mine.py", bench.path("mine.py").read_text().replace("Layers((f, f))", "Layers((f, f[:, [0, 1, 1]]))"))
    refused(RUN, 4, (MINE, "layers [0] differ", "--layers N"))
    one = superbench("--home", bench.home, *RUN.format(at=bench.folder).split(), "--layers", 1, "--json")
    assert one.code == 0, one.err
    assert (one.json[0]["layers"], one.json[0]["layer_weights"]) == ("1", {"all": [1.0]})


def test_codes_are_refused_before_anything_is_computed(bench, refused):
    bench.upstream("(320, 320), (2, 2)", "(320, 320), (2, 2)\n            integers = True")
    bench.write(
        "mine.py", bench.path("mine.py").read_text().replace(RETURN, "return [Layers((f.long(),) * 2) for f in x]")
    )
    refused(RUN, 2, (MINE, "integer codes", "superbench extract"))


def test_a_batch_that_fails_names_its_sounds(bench, refused):
    """One result for several waves: seen where they come in batches, and only there."""
    bench.upstream(RETURN, "return [Layers((x[0], x[0]))]")
    text = bench.path("mine.py").read_text()
    bench.write("mine.py", text.replace("(320, 320), (2, 2)", "(320, 320), (2, 2); exact_batches = True"))
    refused(RUN, 4, (MINE, " on ", "train00", "23 waves in, 1 results out", "and 3 more"))


def test_a_broken_plugin_leaves_other_runs_alone(bench, superbench):
    bench.write("mine.py", "raise RuntimeError")
    command = RUN.replace("-u mine", "-u fbank_no_cmvn").format(at=bench.folder)
    assert superbench("--home", bench.home, *command.split()).code == 0


def test_what_a_plugin_does_to_us_is_undone_and_its_prints_go_to_stderr(bench, superbench):
    clean = superbench("--home", bench.home, *RUN.format(at=bench.upstream(LOADED, LOADED).parent).split(), "--json")
    assert clean.code == 0, clean.err
    rude = """import random, numpy
                print("loading the weights ...")
                random.seed(1); numpy.random.seed(1); torch.manual_seed(1)
                torch.set_num_threads(3); torch.set_default_dtype(torch.float64); torch.set_grad_enabled(False)
                """
    bench.upstream("x = [w[: len", rude + "x = [w[: len")
    import random

    import numpy as np
    import torch

    before = (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())
    facts = (torch.get_num_threads(), torch.get_default_dtype(), torch.is_grad_enabled())
    ended = superbench("--home", bench.home.with_name("rude"), *RUN.format(at=bench.folder).split(), "--json")
    assert ended.code == 0, ended.err
    assert "loading the weights" in ended.err
    assert ended.json[0]["scores"] == clean.json[0]["scores"]
    assert before == (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())
    assert facts == (torch.get_num_threads(), torch.get_default_dtype(), torch.is_grad_enabled())


HEAD = """
    from superbench.plugin import DownstreamSpec, hookimpl

    def build(options, width, classes):
        import torch
        return torch.nn.Linear(width, classes)

    @hookimpl
    def superbench_downstreams():
        yield DownstreamSpec(name="flat", build=build, reads="pooled")
"""
TASK = """
    from superbench.labels import ClassLabels
    from superbench.plugin import TaskProtocol, TaskSpec, hookimpl

    def labels(references, official):
        return ClassLabels.sorted_from(references)

    @hookimpl
    def superbench_tasks():
        protocol = TaskProtocol(
            head="pooled_linear", objective="cross_entropy", metrics=("accuracy",), steps=4, batch=4, accumulate=1,
            eval_every=2, clip=1.0, lr_grid=(1e-2,),
        )
        yield TaskSpec(name="kind", version="1", protocol=protocol, column="label", labels=labels)
"""
# name: a piece of a good head or task; what stands in its place; the words the message must hold
OTHERS = {
    "head that cannot be built": (HEAD, "return torch", "raise KeyError('width')", ("head 'flat' of mine", "KeyError")),
    "head that forgets a class": (
        HEAD,
        "classes)\n\n",
        "classes - 1)\n\n",
        ("head 'flat' of mine", "[2, 3]", "[2, 2]"),
    ),
    "head that does not take its input": (HEAD, "(width, c", "(width + 1, c", ("head 'flat' of mine", "RuntimeError")),
    "task without labels": (
        TASK,
        "return ClassLabels",
        "raise OSError('no list')\n        return ClassLabels",
        ("task 'kind'", "OSError: no list"),
    ),
    "task of an unknown metric": (TASK, '("accuracy",)', '("acuracy",)', ("task kind", "'acuracy'", "'accuracy'")),
    "task of an unknown objective": (TASK, '"cross_entropy"', '"entropy"', ("task kind", "'entropy'")),
    "task of another optimiser": (
        TASK,
        "lr_grid",
        "optimizer='sgd', lr_grid",
        ("task kind", "'sgd'", "there is: adam"),
    ),
}


@pytest.mark.parametrize("case", OTHERS)
def test_a_head_or_task_that_cannot_do_its_work(case, bench, refused):
    text, old, new, words = OTHERS[case]
    assert old in text
    bench.write("mine.py", textwrap.dedent(text.replace(old, new)))
    what = "-t ks --head flat" if text is HEAD else "-t kind"
    refused(RUN.replace("-u mine -t ks", f"-u fbank_no_cmvn {what}"), 4, words)


@pytest.mark.parametrize("what", ["raise RuntimeError('no chat')", "raise SystemExit(0)"])
def test_a_listener_that_fails_loses_nothing(what, bench, superbench):
    bench.write(
        "mine.py",
        f"from superbench.plugin import hookimpl\n@hookimpl\ndef superbench_result(result):\n    print('hi'); {what}\n",
    )
    command = RUN.replace("-u mine", "-u fbank_no_cmvn").format(at=bench.folder)
    ended = superbench("--home", bench.home, *command.split(), "--json")
    assert (ended.code, len(ended.json)) == (4, 1)
    assert "plugin mine (" in ended.err
    board = superbench("--home", bench.home, "leaderboard", "show", "--json")
    assert board.out.count(ended.json[0]["task"]) >= 1
    assert list(bench.home.rglob("result.json"))
