"""The file that the README shows a stranger is upstreams/example.py, and it works as it stands."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path

import torch

README = Path(__file__).parents[2] / "upstreams" / "README.md"
EXAMPLE = README.parent / "example.py"


def test_the_example_is_short_and_keeps_its_promises(tmp_path: Path) -> None:
    text = EXAMPLE.read_text(encoding="utf-8")
    assert f"```python\n{text}```" in (README.parents[1] / "README.md").read_text(encoding="utf-8")
    assert len([line for line in text.splitlines() if line.strip() and not line.startswith('"""')]) <= 12
    (tmp_path / "mine.py").write_text(text)
    spec = importlib.util.spec_from_file_location("mine", tmp_path / "mine.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    (mine,) = module.superbench_upstreams()
    upstream = mine.load(mine.options(), "cpu")
    for samples in (400, 559, 560, 16000):
        (layers,) = upstream([torch.randn(samples, generator=torch.Generator().manual_seed(0))])
        shapes = [tuple(tensor.shape) for tensor in layers.tensors]
        assert shapes == [(upstream.num_frames(samples), width) for width in upstream.widths]
        assert all(bool(torch.isfinite(tensor).all()) for tensor in layers.tensors)
    assert upstream.num_frames(399) == 0
    assert "mine" not in sys.modules


def test_the_table_names_every_upstream_of_the_wing() -> None:
    from superbench_upstreams import superbench_upstreams

    table = [line for line in README.read_text(encoding="utf-8").splitlines() if line.startswith("| `")]
    named = set(re.findall(r"`(\w+)`", " ".join(line.split("|")[1] for line in table)))
    assert named == {spec.name for spec in superbench_upstreams()}
