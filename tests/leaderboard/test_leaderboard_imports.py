"""The hook module is light: loading it, and its help, loads nothing heavy."""

import subprocess
import sys

HEAVY = (
    "torch",
    "torchaudio",
    "pandas",
    "sklearn",
    "transformers",
    "sqlalchemy",
    "alembic",
    "pydantic",
    "numpy",
    "rich",
)


def test_hook_module_loads_nothing_heavy():
    code = f"""
import sys
import superbench_leaderboard
from click.testing import CliRunner
specs = list(superbench_leaderboard.superbench_commands())
assert CliRunner().invoke(specs[0].command, ["show", "--help"]).exit_code == 0
print([name for name in {HEAVY!r} if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
