from __future__ import annotations

import pytest

from livelift.source.sender import Lag

SECOND = 10**9


def test_samples_are_from_capture_to_applied():
    lag = Lag()
    assert lag.percentiles() == (0.0, 0.0, 0.0)
    for lsn in range(1, 101):
        lag.sent(lsn, lsn * SECOND)
    for lsn in range(1, 101):
        lag.applied(lsn, lsn * SECOND + lsn * SECOND // 100)
    assert lag.percentiles() == pytest.approx((0.51, 0.96, 1.0), abs=0.011)


def test_one_acknowledgement_answers_all_up_to_it():
    lag = Lag()
    for lsn in (5, 9, 12):
        lag.sent(lsn, lsn * SECOND)
    lag.applied(8, 20 * SECOND)
    assert lag.oldest() == 9 * SECOND
    lag.applied(12, 20 * SECOND)
    assert lag.oldest() == 0
    assert lag.percentiles()[2] == 15.0


def test_batches_without_a_capture_time_are_no_samples():
    lag = Lag()
    lag.sent(1, 0)
    assert lag.oldest() == 0
    lag.sent(2, 7)
    assert lag.oldest() == 7
    lag.applied(1, SECOND)
    assert lag.percentiles() == (0.0, 0.0, 0.0)


def test_the_window_slides_and_clocks_that_step_back_give_no_negative_lag():
    lag = Lag(window=10)
    for lsn in range(100):
        lag.sent(lsn, (1 if lsn < 90 else 50) * SECOND)
        lag.applied(lsn, 40 * SECOND)
    assert lag.percentiles() == (0.0, 0.0, 0.0)


def test_a_broken_link_forgets_what_was_sent_but_not_what_was_measured():
    lag = Lag()
    lag.sent(1, SECOND)
    lag.applied(1, 3 * SECOND)
    lag.sent(2, SECOND)
    lag.reset()
    assert lag.oldest() == 0
    assert lag.percentiles()[0] == 2.0
