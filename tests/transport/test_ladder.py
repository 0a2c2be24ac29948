from __future__ import annotations

import pytest

from livelift.transport.ladder import ENOUGH, LADDER, Sample, step

TOP = len(LADDER) - 1


def sample(raw_rate, ratio, blocked, packing=0.0, idle=2.0, seconds=0.5, lanes=2):
    raw = int(raw_rate * seconds)
    return Sample(seconds, raw, int(raw / ratio), blocked, packing, idle, lanes)


def settle(link, ratio_of, idle=2.0, start=0):
    """Follow the ladder on a simulated link of ``link`` bytes/s until it stays or swings."""
    rung, seen = start, []
    for _ in range(12):
        speed = LADDER[rung].speed * min(idle, 2.0)
        ratio = ratio_of(rung)
        raw_rate = min(speed, link * ratio, 2e9)
        blocked = 0.95 if link * ratio < speed else 0.0
        rung = step(rung, sample(raw_rate, ratio, blocked, LADDER[rung].speed, idle))
        seen.append(rung)
    return seen[-4:]


def text(rung):
    return LADDER[rung].ratio


def noise(rung):
    return 1.0


def test_slow_link_goes_up_to_the_top():
    assert settle(12e6, text) == [TOP] * 4


def test_ten_gigabit_stays_off():
    assert settle(1.2e9, text) == [0] * 4


def test_gigabit_takes_what_two_idle_cores_can_pack():
    assert set(settle(118e6, text)) <= {2, 3, 4}


def test_busy_machine_does_not_pack_for_a_gigabit():
    assert settle(118e6, text, idle=0.1) == [0] * 4


def test_incompressible_data_goes_no_higher_than_the_first_probe():
    assert max(settle(12e6, noise)) <= 1


def test_relaxed_link_steps_down_to_off():
    rung = TOP
    for expected in range(TOP - 1, -1, -1):
        rung = step(rung, sample(50e6, 2.0, 0.0))
        assert rung == expected
    assert step(0, sample(50e6, 1.0, 0.0)) == 0


@pytest.mark.parametrize("rung", range(len(LADDER)))
def test_idle_lane_changes_nothing(rung):
    assert step(rung, Sample(0.5, ENOUGH - 1, 1, 0.0, 0.0, 2.0, 1)) == rung
    assert step(rung, Sample(0.5, ENOUGH - 1, 1, 1.0, 0.0, 2.0, 1)) == rung


def test_slow_machine_knows_itself():
    """Packing at a tenth of the prior speed: what would pay on the measured machine does not pay here."""
    fast = sample(200e6, 2.14, 0.95, packing=500e6, idle=1.0)
    slow = fast._replace(packing_rate=50e6)
    assert step(1, fast) == 2
    assert step(1, slow) == 1
