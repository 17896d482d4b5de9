"""What an exchange asks of databases is counted, whichever thread asks."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from asgi_obs.exchange import DatabaseUse, ExchangeMiddleware, current_exchange
from asgi_obs.exchange.database import MAX_FINGERPRINTS
from asgi_obs.testing import drive, http_scope
from asgi_obs.types import Receive, Scope, Send


def test_statements_are_counted_and_those_of_one_fingerprint_told_apart() -> None:
    use = DatabaseUse()
    assert [use.add("a", 0.5), use.add("b", 0.25), use.add("a", 0.25)] == [1, 1, 2]
    assert (use.queries, use.seconds) == (3, 1.0)


def test_more_different_statements_than_are_told_apart_are_counted_all_the_same() -> None:
    use = DatabaseUse()
    for number in range(MAX_FINGERPRINTS):
        use.add(str(number), 0)
    assert (use.add("one more", 0), use.add("0", 0)) == (0, 2)
    assert use.queries == MAX_FINGERPRINTS + 2


def test_a_statement_that_repeats_nothing_is_counted_all_the_same() -> None:
    use = DatabaseUse()
    assert [use.add(None, 0.5), use.add(None, 0.5)] == [0, 0]
    assert (use.queries, use.seconds) == (2, 1.0)


def test_statements_of_several_threads_are_all_counted() -> None:
    use = DatabaseUse()
    with ThreadPoolExecutor(4) as pool:
        times = list(pool.map(lambda _: use.add("same", 0.5), range(2000)))
    assert (use.queries, use.seconds) == (2000, 1000.0)
    assert sorted(times) == list(range(1, 2001))


@pytest.mark.anyio
async def test_an_exchange_has_none_until_its_first_statement() -> None:
    seen = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        exchange = current_exchange()
        assert exchange is not None
        seen.append(exchange.database)
        seen.append((exchange.use_database("a", 0.5), exchange.use_database("a", 0.5)))
        seen.append(exchange.database)

    await drive(ExchangeMiddleware(app), http_scope())
    none, times, use = seen
    assert (none, times) == (None, (1, 2))
    assert isinstance(use, DatabaseUse)
    assert (use.queries, use.seconds) == (2, 1.0)
