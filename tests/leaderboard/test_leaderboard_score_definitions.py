"""Overall scores: SUPERB's published columns, examples worked by hand, and what must hold for any numbers."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from superbench.errors import UsageError
from superbench_leaderboard.published_lines import METRICS, SOURCES, shipped
from superbench_leaderboard.score_definitions import (
    DEFINITIONS,
    Reference,
    ScoreDefinition,
    System,
    definition_of,
    interpolate,
    overall,
    penalize,
    score,
    score_p,
)
from superbench_leaderboard.systems import published_systems

# The scores that SUPERB's site computes from its public rows, rounded as it rounds them; None: a task is missing.
SITE = {
    "FBANK": (0, 0),
    "PASE+": (149, 169),
    "APC": (392, 206),
    "VQ-APC": (377, 151),
    "NPC": (386, 74),
    "Mockingjay": (54, -32),
    "TERA": (150, 106),
    "modified CPC": (278, 246),
    "wav2vec": (529, 350),
    "vq-wav2vec": (422, 96),
    "wav2vec 2.0 Base": (818, 674),
    "wav2vec 2.0 Large": (914, 781),
    "HuBERT Base": (941, 778),
    "HuBERT Large": (919, 921),
    "DeCoAR 2.0": (722, 380),
    "DistilHuBERT": (717, None),
    "FaST-VGS+": (809, None),
    "WavLM Base": (1019, 970),
    "WavLM Base+": (1106, 1155),
    "WavLM Large": (1145, 1286),
}
PUBLISHED = list(published_systems(shipped(SOURCES["superb"])))
NAMES = [definition.name for definition in DEFINITIONS]


def rounded(value):
    return None if value is None else round(value)


@pytest.mark.parametrize(("column", "name"), [(0, "superb-paper"), (1, "superb-public")])
def test_all_twenty_scores_are_those_of_the_site(column, name):
    found = {system.name: rounded(score(definition_of(name), system)) for system in PUBLISHED}
    assert found == {system: scores[column] for system, scores in SITE.items()}


def test_no_other_ten_tasks_give_a_column_of_the_site():
    every = {one.task: [] for definition in DEFINITIONS for one in definition.references}
    for one in {one for definition in DEFINITIONS for one in definition.references}:
        every[one.task].append(one)
    assert len(every) == 13
    columns = [{system: scores[column] for system, scores in SITE.items()} for column in (0, 1)]
    fitting = []
    for tasks in itertools.combinations(every, 10):
        references = tuple(one for task in tasks for one in every[task])
        tried = ScoreDefinition(name="x", version="1", summary="", references=references)
        if {system.name: rounded(score(tried, system)) for system in PUBLISHED} in columns:
            fitting.append(set(tasks))
    assert len(fitting) == 2
    for name in ("superb-paper", "superb-public"):
        assert set(definition_of(name).tasks) in fitting


def test_five_task_score_of_a_published_system_by_hand():
    """Written out from the row of HuBERT Base and the reference points: ASR, PR, SID, ER, KS."""
    points = [
        (100 - 6.42 - 76.82) / (96.38 - 76.82),
        (100 - 5.41 - 17.99) / (96.47 - 17.99),
        (81.42 - 20.058174) / (90.3 - 20.058174),
        (64.92 - 48.23672168) / (67.62 - 48.23672168),
        (96.3 - 41.3826674) / (96.66 - 41.3826674),
    ]
    (hubert,) = (system for system in PUBLISHED if system.name == "HuBERT Base")
    assert score(definition_of("superbench-five"), hubert) == pytest.approx(1000 * sum(points) / 5, abs=1e-9)


def test_definitions_are_named_once_and_say_whose_they_are():
    assert len(set(NAMES)) == len(NAMES)
    assert [(name, len(definition_of(name).tasks)) for name in NAMES] == [
        ("superb-paper", 10),
        ("superb-public", 10),
        ("superbench-five", 5),
    ]
    assert "not SUPERB's" in definition_of("superbench-five").summary
    with pytest.raises(UsageError, match="superb-papr") as caught:
        definition_of("superb-papr")
    assert "'superb-paper'" in caught.value.hint


@pytest.mark.parametrize("name", NAMES)
def test_every_reference_is_a_published_metric_of_its_direction(name):
    known = {(metric.task, metric.name): metric for metric in METRICS}
    for reference in definition_of(name).references:
        metric = known[reference.task, reference.metric]
        assert reference.error == (metric.direction == "min")
        assert reference.fbank < reference.sota


# -- worked by hand ----------------------------------------------------------------------------------------------------

ONE = Reference("one", "acc", 20, 60)
ERR = Reference("two", "err", 50, 90, error=True)
FIN = Reference("two", "fin", 0, 10)
TWO_TASKS = ScoreDefinition(name="by-hand", version="1", summary="", references=(ONE, ERR, FIN))


def system(name="x", parameters=None, **metrics):
    keys = {"acc": ("one", "acc"), "err": ("two", "err"), "fin": ("two", "fin")}
    return System(name=name, source="ours", metrics={keys[m]: v for m, v in metrics.items()}, parameters=parameters)


def test_score_by_hand():
    """acc 40 -> 500; err 30 -> 70 -> 500; fin 2 -> 200. Tasks: 500 and 350; score 425."""
    found = system(acc=40, err=30, fin=2)
    assert [interpolate(ONE, 40), interpolate(ERR, 30), interpolate(FIN, 2)] == [500, 500, 200]
    assert score(TWO_TASKS, found) == 425


def test_score_p_by_hand():
    """With 5 million parameters: 100; 100 and 40, mean 70; score 85. Points below 0 keep their size."""
    assert score_p(TWO_TASKS, system(acc=40, err=30, fin=2, parameters=5_000_000)) == 85
    assert score_p(TWO_TASKS, system(acc=0, err=30, fin=2, parameters=5_000_000)) == (-500 + 70) / 2
    assert score_p(TWO_TASKS, system(acc=40, err=30, fin=2, parameters=999_999)) == 425
    assert score_p(TWO_TASKS, system(acc=40, err=30, fin=2, parameters=0)) == 425
    assert score_p(TWO_TASKS, system(acc=40, err=30, fin=2)) is None
    assert [penalize(10, 2_000_000), penalize(-10, 2_000_000), penalize(0, 2_000_000)] == [5, -10, 0]


def test_rank_by_hand():
    """acc: c beats 2, a and b tie at 0. err: a beats 1, b 0, c has none. fin: a and b tie above nobody, c has none."""
    a = system("a", acc=40, err=30, fin=2, parameters=10_000_000)
    b = system("b", acc=40, err=40, fin=2, parameters=1)
    c = system("c", acc=50)
    found = overall(TWO_TASKS, [a, b, c])
    assert [one.rank for one in found] == [(0 + (1 + 0) / 2) / 2, (0 + 0) / 2, (2 + 0) / 2]
    assert [one.score is None for one in found] == [False, False, True]
    assert [one.missing for one in found] == [(), (), ("two",)]


def test_rank_p_by_hand():
    """a has ten times the parameters: its points are 50; 50, 20. b's are 500; 250, 200. c is not known, and not in."""
    a = system("a", acc=40, err=30, fin=2, parameters=10_000_000)
    b = system("b", acc=40, err=40, fin=2, parameters=1)
    c = system("c", acc=50)
    found = overall(TWO_TASKS, [a, b, c])
    assert [one.rank_p for one in found] == [0, 1, None]
    assert [one.score_p for one in found] == [(50 + 35) / 2, (500 + 225) / 2, None]


@pytest.mark.parametrize("lacking", ["acc", "err", "fin"])
def test_missing_metric_is_no_score_and_never_zero(lacking):
    metrics = {"acc": 40, "err": 30, "fin": 2}
    del metrics[lacking]
    (found,) = overall(TWO_TASKS, [system(parameters=1, **metrics)])
    assert (found.score, found.score_p) == (None, None)
    assert found.missing == (("one",) if lacking == "acc" else ("two",))


def test_published_ranks_count_systems_beaten():
    """In the paper's tasks WavLM Large is beaten once: its QbE of 8.86 is below the 9.88 of WavLM Base+."""
    ranks = {
        system.name: one.rank
        for system, one in zip(PUBLISHED, overall(definition_of("superb-paper"), PUBLISHED), strict=True)
    }
    assert ranks["WavLM Large"] == pytest.approx((9 * 19 + 18) / 10)
    public = dict(
        zip(
            (system.name for system in PUBLISHED),
            overall(definition_of("superb-public"), PUBLISHED),
            strict=True,
        )
    )
    assert public["FaST-VGS+"].missing == ("st", "se", "ss")
    assert 0 < public["FaST-VGS+"].rank < 19 * 7 / 10


# -- for any numbers ---------------------------------------------------------------------------------------------------

numbers = st.floats(-1e3, 1e3, allow_nan=False)


def measured(draw, definition):
    return {(one.task, one.metric): draw(numbers) for one in definition.references}


@st.composite
def improved(draw):
    """A definition, a system, and the same one with one metric that is better or as good."""
    definition = draw(st.sampled_from(DEFINITIONS))
    metrics = measured(draw, definition)
    reference = draw(st.sampled_from(definition.references))
    gain = draw(st.floats(0, 1e3, allow_nan=False))
    key = (reference.task, reference.metric)
    better = metrics | {key: metrics[key] + (-gain if reference.error else gain)}
    parameters = draw(st.none() | st.integers(0, 10**9))
    return definition, *(System(name="x", source="ours", metrics=m, parameters=parameters) for m in (metrics, better))


@given(improved())
def test_better_metric_never_lowers_a_score_or_a_rank(drawn):
    definition, before, after = drawn
    assert score(definition, after) >= score(definition, before) - 1e-6
    if before.parameters is not None:
        assert score_p(definition, after) >= score_p(definition, before) - 1e-6
    worse, better = (overall(definition, [*PUBLISHED, one])[-1] for one in (before, after))
    assert better.rank >= worse.rank
    assert (better.rank_p or 0) >= (worse.rank_p or 0)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("end", "wanted"), [("fbank", 0), ("sota", 1000)])
def test_reference_points_score_0_and_1000(name, end, wanted):
    definition = definition_of(name)
    metrics = {
        (one.task, one.metric): 100 - getattr(one, end) if one.error else getattr(one, end)
        for one in definition.references
    }
    found = System(name="x", source="ours", metrics=metrics, parameters=10**6)
    assert score(definition, found) == pytest.approx(wanted, abs=1e-8)
    assert score_p(definition, found) == pytest.approx(wanted, abs=1e-8)


@given(st.data())
def test_order_of_systems_changes_nothing(data):
    definition = data.draw(st.sampled_from(DEFINITIONS))
    systems = [*PUBLISHED, System(name="x", source="ours", metrics=measured(data.draw, definition), parameters=10**7)]
    order = data.draw(st.permutations(range(len(systems))))
    found = overall(definition, systems)
    assert overall(definition, [systems[index] for index in order]) == [found[index] for index in order]
