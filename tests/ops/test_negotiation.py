"""The most wanted format that there is, and nothing that comes from the header as it is."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from asgi_obs.ops.negotiation import accepts_gzip, choose_format

TEXT = "text/plain; version=0.0.4; charset=utf-8"
PROMETHEUS_3 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,"
    "text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("", TEXT),
        ("*/*", TEXT),
        ("text/*", TEXT),
        ("text/html,application/xhtml+xml,*/*;q=0.8", TEXT),
        ("application/json", TEXT),
        ("text/plain", TEXT),
        ("text/plain;version=0.0.4", TEXT),
        ("application/openmetrics-text", "application/openmetrics-text"),
        (PROMETHEUS_3, "application/openmetrics-text"),
        ("application/openmetrics-text;q=0.1, text/plain;q=0.9", TEXT),
        ("text/plain;q=0.1, application/openmetrics-text;q=0.9", "application/openmetrics-text"),
        ("text/plain, application/openmetrics-text", TEXT),
        ("application/openmetrics-text;q=0, */*", TEXT),
        ("application/openmetrics-text;q=high", TEXT),
        ("application/openmetrics-text;version=0.0.1", TEXT),
        ("application/openmetrics-text;version=abc", TEXT),
        ("application/openmetrics-text;version=9.9.9", TEXT),
        ("application/openmetrics-text;version=1.0.0.\u00ff", TEXT),
        (";;=,,q=", TEXT),
    ],
)
def test_the_most_wanted_format_that_we_have_is_chosen(accept: str, expected: str) -> None:
    encode, content_type = choose_format(accept)
    assert content_type.startswith(expected)
    assert encode(CollectorRegistry()) == (b"# EOF\n" if "openmetrics" in expected else b"")


@pytest.mark.parametrize(
    ("accept_encoding", "expected"),
    [
        ("gzip", True),
        ("deflate, GZIP;q=0.5", True),
        ("br", False),
        ("", False),
        ("gzip;q=0", False),
        ("gzip;q=0.0, *", False),
        ("gzip;q=high", False),
        ("identity", False),
    ],
)
def test_gzip_is_taken_when_the_scraper_does_not_refuse_it(accept_encoding: str, expected: bool) -> None:
    assert accepts_gzip(accept_encoding) is expected


@settings(deadline=None)
@given(accept=st.text(alphabet="aplictonex/-.*;=,q01 \u00ff", max_size=80), encoding=st.text(max_size=40))
def test_no_header_breaks_a_scrape(accept: str, encoding: str) -> None:
    content_type = choose_format(accept)[1]
    assert content_type.startswith(("text/plain; version=", "application/openmetrics-text; version=1.0.0"))
    assert accepts_gzip(encoding) in {True, False}
