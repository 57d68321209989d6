"""A board of 10 000 results is shown and exported whole."""

import json
from types import SimpleNamespace

from click.testing import CliRunner

from superbench.contracts import Settings
from superbench_leaderboard.commands import leaderboard
from superbench_leaderboard.records import append, rebuild_index

RESULTS = 10_000


def test_ten_thousand_results(board, database, make_result, tmp_path):
    template = make_result().to_json()
    with board.writing() as connection:
        for number in range(RESULTS):
            hits = number * 7919 % 3082
            score = template["scores"][0] | {"numerator": hits, "value": hits / 3081}
            changes = {"run_id": f"r{number}", "upstream": f"u{number // 5}", "seed": number % 5, "scores": [score]}
            append(connection, "import", f"r{number}", {"result": template | changes})
        assert rebuild_index(connection) == RESULTS
    settings = SimpleNamespace(settings=Settings(store=tmp_path, runs=tmp_path, database=database))

    def run(*words):
        return CliRunner(catch_exceptions=False).invoke(leaderboard, words, obj=settings).stdout

    (table,) = json.loads(run("show", "--json"))
    means = [row["mean"] for row in table["rows"]]
    assert len(means) == RESULTS // 5
    assert means == sorted(means, reverse=True)
    assert run("show").count("\n") > RESULTS // 5
    assert run("export", "--csv", "-").count("\n") == RESULTS + 1
