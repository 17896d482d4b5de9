from __future__ import annotations

import asyncio
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import asgi_obs
from asgi_obs.logs import failure
from asgi_obs.logs.failure import describe
from asgi_obs.settings import Settings
from asgi_obs.testing import drive, http_scope

PACKAGE = Path(asgi_obs.__file__).parent


class Group(Exception):
    """A group as Python 3.10 has none, and as libraries made their own."""

    def __init__(self, message: str, exceptions: Any) -> None:
        super().__init__(message)
        self.exceptions = exceptions


def caught(function: Callable[..., Any], *args: Any) -> BaseException:
    with pytest.raises(BaseException) as found:  # noqa: PT011 - whatever it is
        function(*args)
    return found.value


def throw(error: BaseException) -> None:
    raise error


def code_at(path: str, source: str) -> dict[str, Any]:
    """The names that some code defines which says that it stands at `path`."""
    names: dict[str, Any] = {}
    exec(compile(source, path, "exec"), names)  # noqa: S102 - our own code
    return names


def chain_of(count: int) -> BaseException:
    error: BaseException = ValueError(f"cause {count}")
    for number in range(count - 1, -1, -1):
        outer = ValueError(f"cause {number}")
        outer.__cause__ = error
        error = outer
    return error


def stack_of(error: BaseException) -> str:
    stack = describe(error, stack=True)["stack"]
    assert isinstance(stack, str)
    return stack


def as_python_prints(error: BaseException) -> str:
    return "".join(traceback.format_exception(type(error), error, error.__traceback__))


def test_an_error_has_its_type_and_message() -> None:
    assert describe(ValueError("bad"), stack=False) == {"type": "ValueError", "message": "bad"}
    assert describe(KeyError("k"), stack=False) == {"type": "KeyError", "message": "'k'"}
    assert describe(KeyboardInterrupt(), stack=False) == {"type": "KeyboardInterrupt", "message": ""}


def test_causes_stand_in_a_flat_list_from_the_nearest_on() -> None:
    def fail() -> None:
        try:
            try:
                int("x")
            except ValueError as error:
                raise KeyError("k") from error
        except KeyError:
            raise RuntimeError("r")  # noqa: B904 - the context is the cause here

    assert describe(caught(fail), stack=False)["causes"] == [
        {"type": "KeyError", "message": "'k'"},
        {"type": "ValueError", "message": "invalid literal for int() with base 10: 'x'"},
    ]


def test_a_context_that_python_does_not_print_is_no_cause() -> None:
    def fail() -> None:
        try:
            int("x")
        except ValueError:
            raise RuntimeError("r") from None

    assert describe(caught(fail), stack=False) == {"type": "RuntimeError", "message": "r"}


def test_only_the_nearest_causes_are_listed() -> None:
    causes = describe(chain_of(50), stack=False)["causes"]
    assert [cause["message"] for cause in causes] == [f"cause {number}" for number in range(1, 11)]


def test_a_cause_that_leads_back_is_listed_once() -> None:
    first, second = ValueError("first"), ValueError("second")
    first.__cause__, second.__cause__ = second, first
    assert describe(first, stack=False)["causes"] == [{"type": "ValueError", "message": "second"}]
    assert stack_of(first) == as_python_prints(first)


def test_an_error_that_is_its_own_cause_has_none() -> None:
    error = ValueError("bad")
    error.__cause__ = error
    assert describe(error, stack=False) == {"type": "ValueError", "message": "bad"}


@pytest.mark.parametrize("kind", [list, tuple])
def test_the_members_of_a_group_are_described_with_their_causes_and_members(kind: Any) -> None:
    member = ValueError("a")
    member.__cause__ = OSError("o")
    described = describe(Group("g", kind([member, Group("h", kind([KeyError("k")]))])), stack=False)
    assert described["exceptions"] == [
        {"type": "ValueError", "message": "a", "causes": [{"type": "OSError", "message": "o"}]},
        {
            "type": f"{__name__}.Group",
            "message": "h",
            "exceptions": [{"type": "KeyError", "message": "'k'"}],
        },
    ]


def test_a_cause_that_is_a_group_has_its_members() -> None:
    error = RuntimeError("r")
    error.__cause__ = Group("g", [ValueError("a")])
    (cause,) = describe(error, stack=False)["causes"]
    assert cause["exceptions"] == [{"type": "ValueError", "message": "a"}]


def test_it_is_said_how_many_members_are_left_out() -> None:
    nested = Group("n", [ValueError("x")] * 7)
    described = describe(Group("g", [nested, *[ValueError("x")] * 26]), stack=False)
    assert len(described["exceptions"]) == 27
    assert "exceptions_left_out" not in described
    assert len(described["exceptions"][0]["exceptions"]) == 3
    assert described["exceptions"][0]["exceptions_left_out"] == 4


def test_a_group_that_holds_itself_has_an_end() -> None:
    group = Group("g", [])
    group.exceptions = [group, group]
    assert str(describe(group, stack=True)).count("'message': 'g'") == failure.MAX_MEMBERS + 1


@pytest.mark.parametrize("members", ["abc", [1, 2], [ValueError(), "x"], 5, None, {}, ()])
def test_exceptions_that_are_none_make_no_group(members: Any) -> None:
    assert "exceptions" not in describe(Group("g", members), stack=False)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="Python 3.10 has no groups of its own")
def test_the_groups_of_python_are_groups() -> None:
    def fail() -> None:
        try:
            raise ValueError("a")
        except ValueError as error:
            raise BaseExceptionGroup("g", [error, OSError("o")])  # noqa: B904, F821 - as above; not in Python 3.10

    error = caught(fail)
    described = describe(error, stack=True)
    assert [member["type"] for member in described["exceptions"]] == ["ValueError", "OSError"]
    assert described["stack"] == as_python_prints(error)


def test_a_stack_is_what_python_prints() -> None:
    def fail() -> None:
        try:
            {}["k"]
        except KeyError as error:
            raise RuntimeError("two\nlines") from error

    for error in (caught(fail), caught(compile, "a b", "f.py", "exec"), ValueError("never raised")):
        assert stack_of(error) == as_python_prints(error)


def test_a_stack_has_the_notes() -> None:
    error = caught(throw, ValueError("bad"))
    error.__notes__ = ["in batch 7"]  # type: ignore[attr-defined] # as `add_note` of Python 3.11 does
    assert stack_of(error) == as_python_prints(error)
    assert describe(error, stack=False)["message"] == "bad"


def test_the_stack_of_another_thread_is_kept() -> None:
    errors: list[BaseException] = []
    thread = threading.Thread(target=lambda: errors.append(caught(throw, ValueError("bad"))))
    thread.start()
    thread.join()
    assert "in throw\n" in stack_of(errors[0])


def test_a_stack_never_shows_local_variables() -> None:
    def fail() -> None:
        password = "hunter" + "2"
        raise ValueError(len(password))

    assert "hunter2" not in stack_of(caught(fail))


def serve(error: BaseException) -> None:
    """Have an application raise, called by code of this library."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        throw(error)

    asyncio.run(drive(app, http_scope()))


def test_frames_of_this_library_are_left_out() -> None:
    error = caught(serve, RuntimeError("worse"))
    error.__cause__ = caught(serve, ValueError("bad"))
    stack = stack_of(error)
    assert "in drive\n" in as_python_prints(error)
    assert "in drive\n" not in stack
    assert stack.count("in throw\n") == 2


def test_frames_in_a_directory_of_the_same_name_elsewhere_stay() -> None:
    for path in ("/srv/app/asgi_obs/views.py", f"{PACKAGE}_extra/views.py", "/srv/views.py"):
        theirs = code_at(path, "def view(function, *args):\n    function(*args)\n")
        assert f'"{path}"' in stack_of(caught(theirs["view"], throw, ValueError("bad")))


def test_an_error_of_this_library_keeps_all_frames() -> None:
    stack = stack_of(caught(lambda: Settings(environment="moon")))
    assert "in __post_init__\n" in stack
    assert "in _require\n" in stack


def test_an_endless_recursion_is_folded() -> None:
    def recurse() -> None:
        recurse()

    error = caught(recurse)
    assert stack_of(error) == as_python_prints(error)
    assert "more times]" in stack_of(error)


def test_the_middle_of_too_many_frames_is_left_out() -> None:
    def ping(count: int) -> None:
        if count == 0:
            raise ValueError("end")
        pong(count)

    def pong(count: int) -> None:
        ping(count - 1)

    stack = stack_of(caught(ping, 100))
    # 202 frames: `caught`, and ping and pong 100 times, and ping once more.
    assert "in caught\n" in stack
    assert '  File "...", line 0, in <102 frames left out>\n' in stack
    assert sum(line.startswith("  File") for line in stack.splitlines()) == failure.MAX_FRAMES + 1
    assert stack.endswith("ValueError: end\n")


def test_a_stack_that_is_too_long_loses_whole_lines() -> None:
    secret = "password=" + "x" * failure.MAX_STACK
    error = ValueError("\n".join(["first", *(f"line {number:04}" for number in range(9_000)), secret, "last"]))
    stack = stack_of(caught(throw, error))
    assert len(stack) <= failure.MAX_STACK + 100
    assert "first\n" in stack
    assert stack.endswith("\nlast\n")
    assert "x" * 100 not in stack
    assert {line for line in stack.splitlines() if line.endswith("lines left out>")} != set()


def test_a_line_that_is_too_long_is_left_out_of_the_stack() -> None:
    stack = stack_of(caught(throw, ValueError("x" * failure.MAX_STACK)))
    assert stack.startswith("Traceback (most recent call last):\n")
    assert stack.endswith("<1 lines left out>\n")


def test_of_too_many_causes_only_the_error_itself_has_a_stack() -> None:
    error = caught(throw, chain_of(1_000))
    stack = stack_of(error)
    assert stack.startswith("<no causes")
    assert "in throw\n" in stack
    assert stack.endswith("ValueError: cause 0\n")
    assert stack.count("ValueError") == 1


def test_of_too_deep_a_stack_only_the_last_frames_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failure, "MAX_DEPTH", 10)

    def sink(count: int) -> None:
        if count == 0:
            raise ValueError("deep")
        sink(count - 1)

    stack = stack_of(caught(sink, 200))
    assert stack.startswith("<no causes")
    assert "in caught" not in stack
    assert stack.endswith("ValueError: deep\n")


class Hostile(Exception):
    """Raises for one of its attributes."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._name = name

    def __getattribute__(self, name: str) -> Any:
        if name == object.__getattribute__(self, "_name"):
            raise RuntimeError("no")
        return object.__getattribute__(self, name)


@pytest.mark.parametrize("name", ["__cause__", "__context__", "__suppress_context__", "exceptions", "__notes__"])
def test_an_attribute_that_raises_costs_no_more_than_itself(name: str) -> None:
    described = describe(caught(throw, Hostile(name)), stack=True)
    assert described["message"] == name
    assert "causes" not in described
    assert "in throw\n" in described["stack"]


def test_without_a_traceback_there_is_no_stack() -> None:
    error = caught(throw, ValueError("bad"))
    error.__cause__ = Hostile("__traceback__")
    assert "in throw\n" in stack_of(error)
    assert stack_of(Hostile("__traceback__")) == "<no stack: RuntimeError>"


def test_a_message_that_cannot_be_had_is_said() -> None:
    class Unprintable(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no")

    described = describe(Unprintable(), stack=True)
    assert described["message"] == "<unprintable Unprintable>"
    assert "Unprintable: <" in described["stack"]


def test_a_cause_that_is_no_exception_is_none() -> None:
    class Strange(Exception):
        __cause__ = "a text"  # type: ignore[assignment]

    described = describe(Strange("s"), stack=True)
    assert "causes" not in described
    assert described["stack"].endswith("Strange: s\n")


@settings(max_examples=30)
@given(
    causes=st.recursive(
        st.builds(ValueError, st.text()),
        lambda inner: st.builds(Group, st.text(), st.lists(inner, max_size=5)),
        max_leaves=40,
    )
)
def test_any_group_is_bounded(causes: BaseException) -> None:
    described = describe(causes, stack=True)
    assert str(described).count("'type':") <= failure.MAX_MEMBERS + 1
