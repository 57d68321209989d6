"""Arrows point down: who may import whom, read from the syntax trees of all five packages.

Each rule is a function from the imports to the sentences that break it; below it is tried on made-up houses, one for
each way to break it, so that a rule that sees nothing is seen.
"""

import ast
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

CORE = "superbench"
WINGS = {
    "superbench_upstreams": "upstreams",
    "superbench_downstreams": "downstreams",
    "superbench_tasks": "tasks",
    "superbench_leaderboard": "leaderboard",
}
STAGES = ("audio", "corpus", "features", "training", "scoring")
PIPELINE = f"{CORE}.pipeline"
MAY_RUN_THE_PIPELINE = (CORE, f"{CORE}.api", f"{CORE}.cli", PIPELINE)
LIGHT_ROOMS = ("errors", "contracts", "plugin", "labels", "discovery", "registry", "options", "strict_yaml", "cli")
HEAVY = {
    *("torch", "torchaudio", "transformers", "pandas", "numpy", "scipy", "sklearn", "sqlalchemy", "alembic"),
    *("pydantic", "soundfile", "soxr", "matplotlib", "flashlight"),
}
MAY_WAIT = HEAVY | {"jiwer", "safetensors", "rich", "espeakng_loader", "platformdirs", "huggingface_hub"}
MAY_WAIT |= {"multiprocessing", "concurrent", "asyncio", "sqlite3", "http", "urllib", "xml", "ssl"}  # heavy stdlib


@dataclass(frozen=True)
class Arrow:
    """One import: `when` is "module", "function" or "typing" (under TYPE_CHECKING)."""

    source: str
    target: str  # the module; for `from package import module`, that module
    when: str
    line: int
    through_the_face: bool = False  # `import superbench`, `from superbench import ...`

    def __str__(self) -> str:
        return f"{self.source}, line {self.line}, imports {self.target}"


def within(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


def package_of(module: str) -> str:
    return module.partition(".")[0]


def stage_of(module: str) -> str | None:
    return next((stage for stage in STAGES if within(module, f"{CORE}.{stage}")), None)


# -- reading -----------------------------------------------------------------------------------------------------------


def house() -> dict[str, str]:
    """Source text by module name; a package stands under its own name, with a `.` at the end."""
    root = Path(__file__).parents[1]
    found = {}
    for package, parent in {CORE: ".", **WINGS}.items():
        for file in (root / parent / package).rglob("*.py"):
            name = ".".join(file.relative_to(root / parent).with_suffix("").parts)
            found[f"{name.removesuffix('.__init__')}." if file.stem == "__init__" else name] = file.read_text()
    return found


def arrows(sources: Mapping[str, str]) -> list[Arrow]:
    known = {name.rstrip(".") for name in sources}
    found: list[Arrow] = []
    for name, text in sources.items():
        reader = _Reader(name, known, found)
        reader.visit(ast.parse(text))
    return found


class _Reader(ast.NodeVisitor):
    def __init__(self, name: str, known: set[str], found: list[Arrow]) -> None:
        self.source, self.known, self.found = name.rstrip("."), known, found
        self.package = self.source if name.endswith(".") else self.source.rpartition(".")[0]
        self.when = "module"

    def add(self, target: str, node: ast.AST, *, face: bool = False) -> None:
        self.found.append(Arrow(self.source, target, self.when, node.lineno, face))

    def within(self, when: str, nodes: Iterable[ast.AST]) -> None:
        before, self.when = self.when, when
        for node in nodes:
            self.visit(node)
        self.when = before

    def visit_FunctionDef(self, node):
        self.within(self.when, [*node.decorator_list, node.args])
        self.within("function" if self.when != "typing" else "typing", node.body)

    def visit_AsyncFunctionDef(self, node):
        self.visit_FunctionDef(node)

    def visit_Lambda(self, node):
        self.within("function", [node.body])

    def visit_If(self, node):
        checking = ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")
        self.within("typing" if checking else self.when, node.body)
        self.within(self.when, [node.test, *node.orelse])

    def visit_Import(self, node):
        for alias in node.names:
            self.add(alias.name, node, face=alias.name == CORE)

    def visit_ImportFrom(self, node):
        origin = node.module or ""
        if node.level:
            parent = self.package.rsplit(".", node.level - 1)[0] if node.level > 1 else self.package
            origin = f"{parent}.{origin}".rstrip(".")
        for alias in node.names:
            inner = f"{origin}.{alias.name}"
            self.add(inner if inner in self.known else origin, node, face=origin == CORE)

    def visit_Call(self, node):
        by_name = ast.unparse(node.func) in ("import_module", "importlib.import_module", "__import__")
        if by_name and node.args and isinstance(node.args[0], ast.Constant):
            self.add(str(node.args[0].value), node, face=node.args[0].value == CORE)
        self.generic_visit(node)


# -- the rules ---------------------------------------------------------------------------------------------------------


def wings_stay_apart(found: list[Arrow]) -> Iterator[str]:
    """The core imports no wing, a wing no other wing."""
    for arrow in found:
        if package_of(arrow.target) in WINGS and package_of(arrow.source) != package_of(arrow.target):
            yield f"{arrow}: {'a wing' if package_of(arrow.source) in WINGS else 'the core'} imports no other wing"


def wings_name_the_room(found: list[Arrow]) -> Iterator[str]:
    """Wings import core rooms by their real path, not through the face."""
    for arrow in found:
        if package_of(arrow.source) in WINGS and arrow.through_the_face:
            yield f"{arrow}: a wing imports core rooms by their real path"


def stages_stay_apart(found: list[Arrow]) -> Iterator[str]:
    """A stage imports no other stage; of the rest, the pipeline alone imports several."""
    for arrow in found:
        if stage_of(arrow.source) and stage_of(arrow.target) not in (None, stage_of(arrow.source)):
            yield f"{arrow}: a stage imports no other stage"
    for source in {arrow.source for arrow in found}:
        stages = {stage_of(arrow.target) for arrow in found if arrow.source == source} - {None}
        if within(source, CORE) and not stage_of(source) and not within(source, PIPELINE) and len(stages) > 1:
            yield f"{source} imports the stages {', '.join(sorted(stages))}: the pipeline alone knows several"


def few_run_the_pipeline(found: list[Arrow]) -> Iterator[str]:
    """The command line and the face run the pipeline; nobody else imports it."""
    for arrow in found:
        allowed = arrow.source == CORE or any(within(arrow.source, room) for room in MAY_RUN_THE_PIPELINE[1:])
        if within(arrow.target, PIPELINE) and not allowed:
            yield f"{arrow}: only {', '.join(MAY_RUN_THE_PIPELINE)} may"


def no_circles(found: list[Arrow]) -> Iterator[str]:
    """No circle of imports, neither as modules are read nor when functions run; annotations are not counted."""
    for name, when in (("", ("module",)), (", hidden in a function", ("module", "function"))):
        graph: dict[str, set[str]] = {}
        for arrow in found:
            if arrow.when in when and package_of(arrow.target) in (CORE, *WINGS):
                graph.setdefault(arrow.source, set()).add(arrow.target)
        circle = _circle(graph)
        if circle:
            yield f"a circle{name}: {' -> '.join(circle)}"
            return


def _circle(graph: Mapping[str, set[str]]) -> list[str]:
    """One circle of the graph from start to start, or nothing."""
    done: set[str] = set()

    def walk(node: str, path: list[str]) -> list[str]:
        if node in path:
            return [*path[path.index(node) :], node]
        if node not in done:
            for target in sorted(graph.get(node, ())):
                circle = walk(target, [*path, node])
                if circle:
                    return circle
            done.add(node)
        return []

    return next((circle for node in sorted(graph) if (circle := walk(node, []))), [])


def functions_import_for_weight(found: list[Arrow]) -> Iterator[str]:
    """An import inside a function is of something heavy, or of our own."""
    for arrow in found:
        package = package_of(arrow.target)
        if arrow.when == "function" and package not in (CORE, *WINGS) and package not in MAY_WAIT:
            yield f"{arrow} inside a function, and it is not heavy: import it at the top"


def light_rooms_stay_light(found: list[Arrow]) -> Iterator[str]:
    """The face, the door, the command line and each wing's __init__ load nothing heavy, nor does what they import."""
    read_at_import: dict[str, list[Arrow]] = {}
    for arrow in found:
        if arrow.when == "module":
            read_at_import.setdefault(arrow.source, []).append(arrow)
    rooms = (CORE, *WINGS, *(m for m in read_at_import if any(within(m, f"{CORE}.{room}") for room in LIGHT_ROOMS)))
    for room in sorted(set(rooms)):
        waiting, seen = [(room, room)], {room}
        while waiting:
            module, path = waiting.pop()
            for arrow in read_at_import.get(module, ()):
                if package_of(arrow.target) in HEAVY:
                    yield f"{path} -> {arrow.target} (line {arrow.line}): {room} must be light at import"
                for target in _with_parents(arrow.target):
                    if package_of(target) in (CORE, *WINGS) and target not in seen:
                        seen.add(target)
                        waiting.append((target, f"{path} -> {target}"))


def _with_parents(module: str) -> Iterator[str]:
    """A module and the packages around it, which are read on the way to it."""
    parts = module.split(".")
    for length in range(1, len(parts) + 1):
        yield ".".join(parts[:length])


RULES = (
    wings_stay_apart,
    wings_name_the_room,
    stages_stay_apart,
    few_run_the_pipeline,
    no_circles,
    functions_import_for_weight,
    light_rooms_stay_light,
)


# -- this house --------------------------------------------------------------------------------------------------------


def test_all_five_packages_are_read():
    sources = house()
    assert {package_of(name) for name in sources} == {CORE, *WINGS}
    assert {f"{CORE}.", f"{CORE}.plugin", f"{CORE}.registry", *(f"{wing}." for wing in WINGS)} <= set(sources)
    found = arrows(sources)
    seen = {(arrow.source, arrow.target, arrow.when) for arrow in found}
    assert ("superbench.plugin", "pluggy", "module") in seen
    assert ("superbench.plugin", "torch", "typing") in seen
    assert ("superbench.options", "pydantic", "function") in seen


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_house_keeps(rule):
    broken = list(rule(arrows(house())))
    assert not broken, "\n".join(broken)


# -- made-up houses ----------------------------------------------------------------------------------------------------

SOUND = {
    "superbench.": "from superbench.errors import A\nfrom superbench.api import run",
    "superbench.errors": "import difflib",
    "superbench.api": "def run():\n    from superbench.pipeline import run",
    "superbench.audio": "import numpy\nfrom superbench.errors import A",
    "superbench.features.": "",
    "superbench.features.store": "import torch\nfrom superbench.features.batches import B",
    "superbench.features.batches": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from . import store",
    "superbench.training": "import torch",
    "superbench.pipeline": "from superbench import audio, training\nfrom superbench.features import store",
    "superbench.cli.": "",
    "superbench.cli.main": "import click\ndef main():\n    import rich\n    from superbench.pipeline import run",
    "superbench.options": "def build():\n    from pydantic import TypeAdapter",
    "superbench_tasks.": "from superbench.errors import A\nfrom superbench_tasks import asr",
    "superbench_tasks.asr": "def read():\n    import pandas",
    "superbench_upstreams.": "import superbench.errors\nfrom superbench.errors import A",
}

BROKEN = [
    (wings_stay_apart, "superbench.errors", "import superbench_tasks"),
    (wings_stay_apart, "superbench.errors", "def f():\n    from superbench_tasks.asr import read"),
    (wings_stay_apart, "superbench.errors", "import importlib\nimportlib.import_module('superbench_tasks.asr')"),
    (wings_stay_apart, "superbench_upstreams.", "from superbench_tasks import asr"),
    (wings_stay_apart, "superbench_upstreams.", "if TYPE_CHECKING:\n    from superbench_tasks import asr"),
    (wings_name_the_room, "superbench_tasks.asr", "import superbench"),
    (wings_name_the_room, "superbench_tasks.asr", "from superbench import errors"),
    (wings_name_the_room, "superbench_tasks.asr", "def f():\n    from superbench import run"),
    (stages_stay_apart, "superbench.audio", "from superbench.training import fit"),
    (stages_stay_apart, "superbench.audio", "from superbench import training"),
    (stages_stay_apart, "superbench.audio", "from . import training"),
    (stages_stay_apart, "superbench.audio", "from .features.store import S"),
    (stages_stay_apart, "superbench.features.store", "def f():\n    from superbench.audio import read"),
    (stages_stay_apart, "superbench.features.store", "if typing.TYPE_CHECKING:\n    from ..audio import read"),
    (stages_stay_apart, "superbench.features.", "from .. import audio"),
    (stages_stay_apart, "superbench.plan", "from superbench import audio, training"),
    (stages_stay_apart, "superbench.cli.main", "import superbench.audio\ndef f():\n    import superbench.training"),
    (few_run_the_pipeline, "superbench.errors", "def f():\n    from superbench.pipeline import run"),
    (few_run_the_pipeline, "superbench_tasks.asr", "from superbench.pipeline import run"),
    (no_circles, "superbench.errors", "from superbench.api import run"),
    (no_circles, "superbench.errors", "from superbench import __version__"),
    (
        no_circles,
        "superbench.audio",
        "if True:\n    try:\n        from superbench.pipeline import run\n    finally: ...",
    ),
    (no_circles, "superbench.audio", "def f():\n    from superbench.pipeline import run"),
    (no_circles, "superbench.audio", "class A:\n    async def f(self):\n        import superbench.pipeline"),
    (no_circles, "superbench.audio", "f = lambda: __import__('superbench.pipeline')"),
    (no_circles, "superbench_tasks.asr", "from . import read\nfrom superbench_tasks import asr"),
    (functions_import_for_weight, "superbench.errors", "def f():\n    import difflib"),
    (functions_import_for_weight, "superbench_tasks.asr", "def f():\n    def g():\n        from yaml import parse"),
    (light_rooms_stay_light, "superbench.", "import torch"),
    (light_rooms_stay_light, "superbench.options", "from pydantic import TypeAdapter"),
    (light_rooms_stay_light, "superbench.cli.main", "if True:\n    import numpy.typing"),
    (light_rooms_stay_light, "superbench.cli.main", "class A:\n    import pandas"),
    (light_rooms_stay_light, "superbench.cli.main", "def f(x=__import__('torch')): ..."),
    (light_rooms_stay_light, "superbench.cli.main", "from superbench.pipeline import run"),
    (light_rooms_stay_light, "superbench_tasks.asr", "import sqlalchemy"),
    (light_rooms_stay_light, "superbench_tasks.asr", "import importlib\nimportlib.import_module('flashlight.lib')"),
    (light_rooms_stay_light, "superbench_upstreams.", "from superbench.features import store"),
    (light_rooms_stay_light, "superbench.cli.", "import sklearn"),
]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_a_sound_house_keeps(rule):
    assert list(rule(arrows(SOUND))) == []


@pytest.mark.parametrize(("rule", "module", "text"), BROKEN)
def test_a_broken_house_is_seen(rule, module, text):
    broken = list(rule(arrows({**SOUND, module: text})))
    assert broken
    assert module.rstrip(".") in broken[0]


def test_every_rule_is_tried():
    assert {rule for rule, _, _ in BROKEN} == set(RULES)


def test_typing_only_imports_make_no_circle_and_no_weight():
    text = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import torch\n    from superbench.api import run\n"
    sources = {**SOUND, "superbench.errors": text}
    assert list(no_circles(arrows(sources))) == []
    assert list(light_rooms_stay_light(arrows(sources))) == []
    otherwise = {**SOUND, "superbench.errors": text + "else:\n    import torch\n"}
    assert list(light_rooms_stay_light(arrows(otherwise)))
