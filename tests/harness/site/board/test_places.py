"""The answer for each case, from runs whose truth is known."""

import pytest
from synthetic_runs import blocks, case, record
from synthetic_store import environment, put, start

from lstm_harness.site import catalogue
from lstm_harness.site.board import classes, told
from lstm_harness.site.board.places import Contestant, groups

SPREAD = (1.0, 1.01, 0.99)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def store(tmp_path):
    return tmp_path / "store"


def times(backend, median_ns, of=None, spread=SPREAD):
    return blocks(backend, [round(each * median_ns) for each in spread], of=of)


def plugin(digest, backend="mine", file="mine.py"):
    return {"plugins": [{"file": file, "sha256": digest * 64, "backends": [backend]}]}


def answer(store):
    """The groups of the only class of a store."""
    ((which, runs),) = classes.grouped(catalogue.collect([store]).runs.values()).items()
    return groups(runs, told.of_class(which, runs))


def only(store):
    """The only place of a store."""
    ((place,),) = (group.places for group in answer(store))
    return place


def names(entries):
    return [entry.contestant.backend for entry in entries]


def test_the_fastest_of_a_run_wins_by_its_ratio(store):
    put(store / "one", [*times("aten", 100_000), *times("naive", 200_000)])
    place = only(store)
    assert (place.state, place.first.contestant) == ("win", Contestant("aten"))
    assert place.second.contestant == Contestant("naive")
    assert place.ratio.value == pytest.approx(2)


def test_who_alternates_ties(store):
    put(
        store / "one",
        [
            *times("aten", 100_000, spread=(1.0, 1.04, 0.98)),
            *times("naive", 100_500, spread=(1.03, 0.98, 1.0)),
            *times("hoisted", 900_000),
        ],
    )
    place = only(store)
    assert (place.state, names(place.ties)) == ("tie", ["naive"])


def test_two_blocks_prove_nothing(store):
    put(store / "one", [*times("aten", 1000, spread=(1, 1)), *times("naive", 9000, spread=(1, 1))])
    assert only(store).state == "unknown"


def test_one_backend_is_alone(store):
    put(store / "one", times("aten", 1000))
    place = only(store)
    assert (place.state, place.second, place.ratio) == ("alone", None, None)


def test_a_wrong_backend_is_never_the_fastest(store):
    wrong = [record("naive", block=block, status="incorrect") for block in range(3)]
    put(store / "one", [*times("aten", 1000), *wrong])
    assert only(store).first.contestant.backend == "aten"


def test_the_newest_time_of_a_backend_counts_not_its_best(store):
    put(store / "old", times("aten", 50_000), start=start(0))
    put(store / "new", times("aten", 100_000), start=start(1))
    place = only(store)
    assert (place.first.run.name, place.first.row["median_ns"]) == ("new", 100_000)
    assert place.state == "alone"


def test_a_newest_run_in_which_a_backend_is_wrong_leaves_its_last_right_time(store):
    put(store / "old", times("aten", 50_000), start=start(0))
    put(store / "new", [record("aten", status="incorrect")], start=start(1))
    assert only(store).first.run.name == "old"


@pytest.mark.parametrize(("slower", "state"), [(1.03, "tie"), (1.20, "win")])
def test_backends_of_two_runs_differ_only_beyond_the_margin(store, slower, state):
    tight = (1.0, 1.001, 0.999)
    put(store / "a", times("aten", 100_000, spread=tight), start=start(0))
    put(store / "b", times("naive", slower * 100_000, spread=tight), start=start(1))
    place = only(store)
    assert (place.state, place.first.contestant.backend) == (state, "aten")
    assert place.ratio.value == pytest.approx(slower, rel=1e-3)


def test_the_same_difference_within_a_run_is_a_win(store):
    tight = (1.0, 1.001, 0.999)
    records = [*times("aten", 100_000, spread=tight), *times("naive", 103_000, spread=tight)]
    put(store / "a", records)
    assert only(store).state == "win"


def test_two_sources_of_a_plugin_are_two_contestants(store):
    put(store / "a", times("mine", 100_000), start=start(0), **plugin("a"))
    put(store / "b", times("mine", 200_000), start=start(1), **plugin("b"))
    place = only(store)
    assert place.first.contestant == Contestant("mine", "mine.py", "a" * 64)
    assert place.second.contestant == Contestant("mine", "mine.py", "b" * 64)


def test_a_backend_of_unknown_origin_has_the_digest_of_all_kernels(store):
    put(store / "a", times("strange", 1000))
    assert only(store).first.contestant == Contestant("strange", "", "0123abcd")


def test_times_under_other_conditions_are_not_compared(store):
    one_thread = environment(cpu={"model": "A CPU", "physical_cores": 2, "threads": 1})
    put(store / "two", [*times("aten", 1000), *times("aten", 1000, of=case(seq_len=8))])
    put(store / "one", times("naive", 500), environment=one_thread)
    first, second = answer(store)
    assert [len(group.places) for group in (first, second)] == [2, 1]
    assert (first.conditions["threads"], second.conditions["threads"]) == ("2", "1")
    assert second.places[0].state == "alone"


def test_cases_are_in_a_readers_order(store):
    cases = [case("backward"), case(seq_len=128), case(seq_len=16), case(dtype="float64")]
    put(store / "one", [each for one in cases for each in times("aten", 1000, of=one)])
    (group,) = answer(store)
    order = [place.label for place in group.places]
    assert order == [cases[2].label(), cases[1].label(), cases[3].label(), cases[0].label()]
