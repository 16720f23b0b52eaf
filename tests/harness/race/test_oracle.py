import pytest

from lstm_harness.race.oracle import Oracle
from lstm_harness.race.process import WorkerSettings


@pytest.fixture
def oracle(forked, tmp_path):
    made = Oracle(WorkerSettings("cpu", tmp_path, 1), seed=0)
    yield made
    made.close()


def test_a_process_that_was_started_ahead_answers_the_first_question(oracle):
    assert oracle.pids() == []
    oracle.start()
    started = oracle.pids()
    assert oracle.state()["load_average"]
    oracle.start()
    assert oracle.pids() == started
