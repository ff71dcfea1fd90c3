"""Simulated machines: what is lost where none dies, the expected time by its closed form, and the best interval."""

import math

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from taxogen.stages.scheduling.simulated import Fleet, daly, main, simulate, young


def expected(fleet, work):
    """Seconds of a task on one machine: each stretch up to a checkpoint is begun again until no death interrupts it."""
    count = max(1, math.ceil(work / fleet.interval))
    last = work - (count - 1) * fleet.interval if count > 1 else work
    stretches = [*[fleet.interval + fleet.checkpoint] * (count - 1), last]
    mean, start = fleet.between, fleet.start / fleet.between
    return mean * (math.exp(start) * sum(math.expm1(one / mean) for one in stretches) + math.expm1(start))


@pytest.mark.parametrize("interval", [200.0, 333.0, math.inf])
def test_a_task_takes_as_long_as_theory_says(interval):
    """Deaths are memoryless: a stretch of length L that follows a start S takes M (e^(L/M) - 1) e^(S/M) on average."""
    fleet = Fleet(between=600.0, start=20.0, checkpoint=10.0, interval=interval)
    rng = np.random.default_rng(0)
    seconds = [simulate(fleet, {"a": 900.0}, rng)[0] for _ in range(500)]
    error = np.std(seconds) / math.sqrt(len(seconds))
    assert np.mean(seconds) == pytest.approx(expected(fleet, 900.0), abs=3.5 * error)


@pytest.mark.parametrize(("tasks", "machines", "slots"), [(1, 1, 1), (7, 2, 3), (24, 2, 4)])
def test_where_no_machine_dies_tasks_fill_the_slots(tasks, machines, slots):
    fleet = Fleet(machines, slots, start=5.0, checkpoint=1.0, interval=40.0)
    seconds, lost = simulate(fleet, {str(number): 100.0 for number in range(tasks)}, np.random.default_rng(0))
    assert seconds == math.ceil(tasks / (machines * slots)) * (5 + 100 + 2)
    assert lost == pytest.approx(7 / 107)


def test_a_machine_takes_all_its_tasks_with_it_and_is_away_for_a_while():
    work = {str(number): 50.0 for number in range(40)}

    def mean(fleet):
        return np.mean([simulate(fleet, work, np.random.default_rng(seed)) for seed in range(20)], axis=0)

    at_once, away = (mean(Fleet(8, 1, 300.0, repair))[0] for repair in (0.0, 300.0))
    assert away > at_once > 250
    assert mean(Fleet(1, 8, 300.0))[1] > 2 * mean(Fleet(8, 1, 2400.0))[1], (
        "as many deaths, each of eight tasks"
    )


@pytest.mark.parametrize("between", [100.0, 3600.0, 86400.0])
@pytest.mark.parametrize("checkpoint", [0.1, 5.0])
def test_the_interval_of_daly_loses_least(checkpoint, between):
    def rate(interval):
        """Seconds for each second of work (Daly 2006, eq. 20), but for the restart, which no interval changes."""
        return between * math.expm1((interval + checkpoint) / between) / interval

    best = minimize_scalar(
        rate, bounds=(1e-3, 10 * young(checkpoint, between)), method="bounded", options={"xatol": 1e-6}
    )
    assert daly(checkpoint, between) == pytest.approx(best.x, rel=2e-3)
    assert rate(daly(checkpoint, between)) <= best.fun * (1 + 1e-6)
    assert abs(young(checkpoint, between) / best.x - 1) < 2 * math.sqrt(checkpoint / between)
    assert daly(3 * between, between) == between


def test_a_table_is_printed_of_which_daly_is_the_best_line(capsys):
    main(["--machines", "4", "--slots", "2", "--tasks", "40", "--between", "4", "--checkpoint", "20"])
    first, _, *lines = capsys.readouterr().out.splitlines()
    assert first == f"Young {young(20, 4 * 3600):.0f} s, Daly {daly(20, 4 * 3600):.0f} s"
    lost = {float(line.split()[0]): float(line.split()[1].rstrip("%")) for line in lines}
    assert len(lost) == 6
    assert min(lost, key=lambda interval: lost[interval]) == round(daly(20, 4 * 3600))
