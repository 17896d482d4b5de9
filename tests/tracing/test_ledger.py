from __future__ import annotations

import pytest

from asgi_obs.tracing.ledger import DROPPED, SpanLedger


@pytest.fixture
def ledger() -> SpanLedger:
    return SpanLedger(3)


def dropped() -> int:
    return int(DROPPED._value.get())


def test_there_is_room_for_so_many_that_wait(ledger: SpanLedger) -> None:
    before = dropped()

    assert [ledger.admit() for _ in range(4)] == [True, True, True, False]
    assert ledger.take(2)
    assert [ledger.admit() for _ in range(3)] == [True, True, False]
    assert (ledger.outstanding, ledger.lost, dropped() - before) == (5, 2, 2)


def test_what_was_taken_has_got_through_or_is_lost(ledger: SpanLedger) -> None:
    for _ in range(3):
        ledger.admit()
    ledger.take(3)

    ledger.finish(2, exported=True)
    ledger.finish(1, exported=False)

    assert (ledger.exported, ledger.lost, ledger.outstanding) == (2, 1, 0)


def test_a_closed_one_admits_none_and_a_settled_one_counts_no_more(ledger: SpanLedger) -> None:
    ledger.admit()
    ledger.admit()
    ledger.take(1)
    ledger.close()

    assert not ledger.admit()
    assert ledger.settle() == 2
    assert not ledger.take(1)
    ledger.finish(1, exported=True)
    assert (ledger.exported, ledger.lost, ledger.outstanding) == (0, 3, 0)


def test_a_forked_process_starts_anew(ledger: SpanLedger) -> None:
    ledger.admit()
    ledger.settle()

    ledger.start_anew()

    assert ledger.admit()
    assert (ledger.outstanding, ledger.lost, ledger.settled) == (1, 0, False)
