"""What our spans say otherwise than those of opentelemetry-instrumentation-asgi: the table of the docs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from tests.tracing.oracle import KNOWN_METHODS, Case, Unreadable, observe, unwrapped

SERVER_SPAN: Final = "https://opentelemetry.io/docs/specs/semconv/http/http-spans/#http-server-span"
SPAN_NAME: Final = "https://opentelemetry.io/docs/specs/semconv/http/http-spans/#name"
SPAN_STATUS: Final = "https://opentelemetry.io/docs/specs/semconv/http/http-spans/#status"
SERVER_ADDRESS: Final = (
    "https://opentelemetry.io/docs/specs/semconv/http/http-spans/#setting-serveraddress-and-serverport-attributes"
)
ASGI: Final = "https://asgi.readthedocs.io/en/latest/specs/www.html"


@dataclass(frozen=True)
class Difference:
    """Something that a span of ours says otherwise.

    Attributes:
        field: The attribute, or what else it is.
        when: When it applies, in words.
        ours: What ours is then, in words.
        theirs: What it is in the other.
        reason: Why.
        applies: Whether it applies to a request.
        expected: What ours is then.
    """

    field: str
    when: str
    ours: str
    theirs: str
    reason: str
    applies: Callable[[Case], Any]
    expected: Callable[[Case], Any]

    def __str__(self) -> str:
        """The row of the table in the docs."""
        name = self.field if self.field in PLAIN else f"`{self.field}`"
        return f"| {name} | {self.when} | {self.ours} | {self.theirs} | {self.reason} |"


CUT_SHORT: Final = ("incomplete", "cancelled")

PLAIN: Final = ("the request", "name", "parent", "status", "events", "baggage")
"""Fields that are no attributes."""


def name_of(case: Case) -> str:
    method = case.method if case.method in KNOWN_METHODS else "HTTP"
    return method if case.route is None else f"{method} {case.route}"


def is_ended(case: Case) -> bool:
    """Whether the other has ended its span, with the last piece of the body, when the application raises."""
    steps = [step for step in case.story.steps if isinstance(step, dict)]
    ended = any(step["type"] == "http.response.body" and not step["more_body"] for step in steps)
    return ended and case.story.raised is not None and case.story.error is not None


def is_unseen(case: Case) -> bool:
    """Whether there is a 5xx that no `http.response.start` has told."""
    return case.story.error == "503" and case.kind == "websocket"


def is_raised(case: Case) -> bool:
    return case.story.raised is not None and case.story.description is not None


def exception_of(case: Case) -> list[Any]:
    described = {"exception.type": case.story.error, "exception.message": case.story.description.partition(": ")[2]}  # type: ignore[union-attr]
    return [("exception", described)]


DIFFERENCES: Final = (
    Difference(
        "the request",
        "the query is not UTF-8, `Host` or `User-Agent` hold a backslash and are not UTF-8, "
        "or the text of the application's exception cannot be had",
        "answered as without us",
        "ends with an exception of its own",
        "Observing never breaks a request",
        lambda case: case.breaks,
        lambda case: observe(case, unwrapped)["the request"],
    ),
    Difference(
        "name",
        "always",
        "`{method} {route}`, without a route `{method}`",
        "`{method} {path}`, for a WebSocket the path",
        f'"MUST NOT default to using URI path" ([Name]({SPAN_NAME}))',
        lambda case: True,
        name_of,
    ),
    Difference(
        "parent",
        "there are several `traceparent` headers",
        "none: a new trace",
        "the first one's",
        "Of a field that is no list there is one "
        "([RFC 9110, section 5.3](https://www.rfc-editor.org/rfc/rfc9110#section-5.3)); "
        "which is the caller's, nobody knows",
        lambda case: case.caller.reason == "several",
        lambda case: None,
    ),
    Difference(
        "parent",
        "a `traceparent` of a later version is longer than 256 characters, or has some that no header has",
        "none: a new trace",
        "the caller's span",
        "[Fields to come](https://www.w3.org/TR/trace-context/#versioning-of-traceparent) may not be of any size",
        lambda case: case.caller.reason == "later",
        lambda case: None,
    ),
    Difference(
        "baggage",
        "a member has properties (`user=7;ttl=1`)",
        "`7`",
        "`7;ttl=1`",
        "They are [no part of the value](https://www.w3.org/TR/baggage/#property); the API has no place for them",
        lambda case: case.bag.reason == "properties",
        lambda case: case.bag.told,
    ),
    Difference(
        "baggage",
        "there are several `baggage` headers",
        "all of them",
        "the first",
        "They are [one list](https://www.w3.org/TR/baggage/#header-name)",
        lambda case: case.bag.reason == "several",
        lambda case: case.bag.told,
    ),
    Difference(
        "baggage",
        "there are more than 64 members",
        "the first 64",
        "the first 180",
        "That is what everybody has [to accept](https://www.w3.org/TR/baggage/#limits)",
        lambda case: case.bag.reason == "many",
        lambda case: case.bag.told,
    ),
    Difference(
        "http.request.method",
        "a known method is not in upper case (`get`)",
        "`_OTHER`",
        "`GET`",
        f'"HTTP method names are case-sensitive" ([note 1]({SERVER_SPAN}))',
        lambda case: case.method not in KNOWN_METHODS and case.method.upper() in KNOWN_METHODS,
        lambda case: "_OTHER",
    ),
    Difference(
        "http.request.method",
        "it is a WebSocket",
        "`GET`",
        "none",
        f"Required ([span]({SERVER_SPAN})); "
        "that is [how one is opened](https://www.rfc-editor.org/rfc/rfc6455#section-4.1)",
        lambda case: case.kind == "websocket",
        lambda case: "GET",
    ),
    Difference(
        "http.response.status_code",
        "the application sends no response",
        "500, 499 for a client that left, 503 if the server cancelled it",
        "none",
        "What the server answers, and what [log and metrics](design.md#the-timeline-of-a-request) say",
        lambda case: case.kind == "http" and not any(isinstance(step, dict) for step in case.story.steps),
        lambda case: case.story.status,
    ),
    Difference(
        "http.response.status_code",
        "it is a WebSocket",
        "101, 403 for a refusal, the status of a denial response, 500 for an exception before",
        "200 if a message is sent, else none",
        f"The status that the server [sends]({ASGI}#websocket); 200 is never one",
        lambda case: case.kind == "websocket",
        lambda case: case.story.status,
    ),
    Difference(
        "http.route",
        "a route is known",
        "its template",
        "none",
        f"Conditionally required, if it is available ([span]({SERVER_SPAN}))",
        lambda case: case.route is not None,
        lambda case: case.route,
    ),
    Difference(
        "error.type",
        "the application raises",
        "the class of the exception",
        "the status that was sent, if that is a 5xx, else none",
        f'"SHOULD be set to exception type" ([note 4]({SERVER_SPAN}))',
        is_raised,
        lambda case: case.story.error,
    ),
    Difference(
        "error.type",
        "the application returns, or is cancelled, before its response is finished",
        "`incomplete`, `cancelled`",
        "none",
        f"Not [sent fully]({SPAN_STATUS})",
        lambda case: case.story.error in CUT_SHORT,
        lambda case: case.story.error,
    ),
    Difference(
        "error.type",
        "a WebSocket is denied with a 5xx",
        "the status",
        "none",
        f"A 5xx is an error, [whatever sends it]({SPAN_STATUS})",
        is_unseen,
        lambda case: "503",
    ),
    Difference(
        "status",
        "the application returns, or is cancelled, before its response is finished",
        "error",
        "unset",
        '"an error occurred preventing the […] server from […] sending […] the […] response fully" '
        f"([Status]({SPAN_STATUS}))",
        lambda case: case.story.error in CUT_SHORT,
        lambda case: ("ERROR", None),
    ),
    Difference(
        "status",
        "a WebSocket is denied with a 5xx",
        "error",
        "unset",
        f"As for `error.type` ([Status]({SPAN_STATUS}))",
        is_unseen,
        lambda case: ("ERROR", None),
    ),
    Difference(
        "status",
        "the application raises after the whole body of a 5xx, or before the trailers",
        "error, with the exception",
        "as it was",
        "The other has ended its span with the body; the exception is what explains the 5xx",
        is_ended,
        lambda case: ("ERROR", case.story.description),
    ),
    Difference(
        "status",
        "the application's exception has a secret in its text, or none that can be had",
        "error, redacted",
        "error, with the secret; unset",
        "[Redaction](redaction.md)",
        lambda case: case.story.raised in {ValueError, Unreadable},
        lambda case: ("ERROR", case.story.description),
    ),
    Difference(
        "events",
        "the application raises before its response has ended, or after a 5xx",
        "the exception, redacted",
        "the exception with `exception.escaped`; none once the last piece of the body is sent",
        "`exception.escaped` is "
        "[deprecated](https://opentelemetry.io/docs/specs/semconv/registry/attributes/exception/#deprecated-exception-attributes)",
        is_raised,
        exception_of,
    ),
    Difference(
        "server.address",
        "always",
        "the host of `Host`; if that says none, the server's address, and none if there is none",
        "the server's address with its port in it, or `0.0.0.0`",
        f"[Setting]({SERVER_ADDRESS}) it",
        lambda case: True,
        lambda case: case.address[0],
    ),
    Difference(
        "server.port",
        "always",
        "that of `Host`, or the scheme's; without `Host` the server's",
        "the server's, or 80",
        f"[Setting]({SERVER_ADDRESS}) it",
        lambda case: True,
        lambda case: case.address[1],
    ),
    Difference(
        "client.port",
        "always",
        "none",
        "the client's",
        f"Opt-In ([span]({SERVER_SPAN}))",
        lambda case: True,
        lambda case: None,
    ),
    Difference(
        "url.scheme",
        "the server tells none",
        "`http`, `ws`",
        "none",
        f"Required ([span]({SERVER_SPAN})); these are [ASGI's defaults]({ASGI})",
        lambda case: case.scheme is None,
        lambda case: case.scheme_told,
    ),
    Difference(
        "network.protocol.version",
        "the server tells none",
        "`1.1`",
        "none",
        f"[ASGI's default]({ASGI}#websocket-connection-scope)",
        lambda case: case.http_version is None,
        lambda case: "1.1",
    ),
    Difference(
        "url.path",
        "there is a secret in it",
        "redacted",
        "as sent",
        f'"Sensitive content […] SHOULD be scrubbed" ([note 2]({SERVER_SPAN}))',
        lambda case: case.path.reason == "secret",
        lambda case: case.path.told,
    ),
    Difference(
        "url.path",
        "there is a lone surrogate in it",
        "`?` in its place",
        "as sent",
        "It cannot be [encoded](https://protobuf.dev/programming-guides/proto3/#scalar), and loses the whole batch",
        lambda case: case.path.reason == "surrogate",
        lambda case: case.path.told,
    ),
    Difference(
        "url.query",
        "a parameter is [sensitive](redaction.md)",
        "its value is `******`",
        "as sent",
        f'"Sensitive content […] SHOULD be scrubbed" ([note 10]({SERVER_SPAN}))',
        lambda case: case.query.reason == "secret",
        lambda case: case.query.told,
    ),
    Difference(
        "url.query",
        "there is a parameter `AWSAccessKeyId`, `Signature`, `sig` or `X-Goog-Signature`",
        "its value is `REDACTED`",
        "as sent",
        f"[Note 10]({SERVER_SPAN})",
        lambda case: case.query.reason == "signed",
        lambda case: case.query.told,
    ),
    Difference(
        "url.query",
        "it is not UTF-8",
        "read as latin-1",
        "none: see above",
        "Every byte is a character there",
        lambda case: case.query.reason == "bytes",
        lambda case: case.query.told,
    ),
    Difference(
        "user_agent.original",
        "there is a secret in it",
        "redacted",
        "as sent",
        "[Redaction](redaction.md)",
        lambda case: case.agent.reason == "secret",
        lambda case: case.agent.told,
    ),
    Difference(
        "user_agent.original",
        "it is not UTF-8",
        "read as latin-1",
        "read as a Python literal: `\\n` becomes a line break",
        f'"Value of the HTTP User-Agent header sent by the client" ([span]({SERVER_SPAN}))',
        lambda case: case.agent.reason == "bytes",
        lambda case: case.agent.told,
    ),
    Difference(
        "user_agent.original",
        "it is empty",
        "empty",
        "none",
        "As above",
        lambda case: case.agent.reason == "empty",
        lambda case: "",
    ),
    Difference(
        "user_agent.synthetic.type",
        "always",
        "none",
        "`bot` or `test`, by a list of names",
        f"Opt-In ([span]({SERVER_SPAN}))",
        lambda case: True,
        lambda case: None,
    ),
)
