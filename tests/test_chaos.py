"""A small real run, killed at random instants, ends like one that nobody disturbed."""

import signal

import pytest

from tests.chaos import disturb


def check(folder, kills: int, number: int, processes: int) -> None:
    outcome = disturb(folder, kills, number, processes)
    print(outcome)
    assert outcome.faults == [] and outcome.kills == kills


def test_five_kills(tmp_path):
    check(tmp_path, 5, signal.SIGKILL, 1)


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_fifty_kills(tmp_path, number, processes):
    check(tmp_path, 50, number, processes)
