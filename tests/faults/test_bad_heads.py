"""A head whose `together` is not what each head says by itself is refused before anything is trained."""

from __future__ import annotations

import shutil

import pytest
from safetensors import safe_open

HEAD = """
    import torch
    from superbench.plugin import DownstreamSpec, hookimpl

    def build(options, width, classes):
        class Head(torch.nn.Linear):
            def __init__(self):
                super().__init__(width, classes)
                self.dropout = torch.nn.Dropout(0.5)

            def forward(self, x, lengths=None):
                return super().forward({alone})

            def together(self, parameters, x, lengths=None):
                w, b = parameters["weight"], parameters["bias"]
                {wrong}
                return torch.baddbmm(b[:, None], x, w.transpose(1, 2))

        return Head()

    @hookimpl
    def superbench_downstreams():
        yield DownstreamSpec(name="mine", build=build, reads="pooled")
"""
WRONG = {
    "the mean of all": "w = w.mean(0, keepdim=True).expand_as(w)",
    "each the other's": "w, b = w.roll(1, 0), b.roll(1, 0)",
    "a little of the other": "w = w + 0.01 * w.mean(0, keepdim=True)",
    "no gradient": "w = w.detach()",
    "another shape": "b, w = b[:, :-1], w[:, :-1]",
    "dropout": "x = self.dropout(x)",
}


def arguments(bench, head):
    return (
        f"run -q -p {head} -u fbank_no_cmvn --head mine -t ks --data {bench.folder}/m.csv --steps 2 --lr 1e-2".split()
    )


@pytest.mark.parametrize("case", WRONG)
def test_a_head_that_says_something_else_together(case, bench, plugin, superbench):
    head = plugin(HEAD.format(alone="x", wrong=WRONG[case]), "wrong.py")
    ended = superbench("--home", bench.home, *arguments(bench, head))
    assert ended.code == 4, ended.err
    assert [w for w in ("head 'mine'", "`together`", "leave `together` out") if w not in ended.err] == []
    assert not list(bench.home.rglob("*.safetensors"))


def test_dropout_on_both_ways_is_refused_too(bench, plugin, superbench):
    head = plugin(HEAD.format(alone="self.dropout(x)", wrong=WRONG["dropout"]), "wrong.py")
    assert superbench("--home", bench.home, *arguments(bench, head)).code == 4


def test_a_right_one_is_taken(bench, plugin, superbench):
    head = plugin(HEAD.format(alone="x", wrong="pass"), "right.py")
    ended = superbench("--home", bench.home, *arguments(bench, head))
    assert ended.code == 0, ended.err


def test_a_store_that_is_deleted_while_a_run_reads_it_is_filled_again(bench, superbench, monkeypatch):
    """As by `superbench store prune` beside it."""
    from superbench.features.sources import Stored

    run = f"run -q -u fbank_no_cmvn -t asr --data {bench.folder}/m.csv --steps 2 --lr 1e-2".split()
    run += ["--head", "blstm:projector=2,hidden=2"]
    fetch, left = Stored.fetch, [True]

    def emptied(self, segments):
        if left.pop() if left else False:
            shutil.rmtree(bench.home / "store")
        return fetch(self, segments)

    monkeypatch.setattr(Stored, "fetch", emptied)
    ended = superbench("--home", bench.home, *run)
    assert ended.code == 0, ended.err
    (shard,) = (bench.home / "store").rglob("*.safetensors")
    with safe_open(shard, framework="pt") as opened:
        assert opened.keys()
