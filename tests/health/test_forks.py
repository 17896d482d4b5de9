"""What is still usable behind a fork."""

from __future__ import annotations

import os
import threading

import pytest

from asgi_obs.health import forks
from asgi_obs.health.forks import ForkSafeLock


def test_a_guard_lets_one_thread_in_at_a_time() -> None:
    lock = ForkSafeLock()
    inside = threading.Event()

    def enter() -> None:
        with lock:
            inside.set()

    with lock:
        thread = threading.Thread(target=enter)
        thread.start()
        assert not inside.wait(0.01)
    thread.join(10)
    assert inside.is_set()


def test_what_is_to_be_done_behind_a_fork() -> None:
    lock = ForkSafeLock()
    lock.__enter__()
    forks._after_fork()
    with lock:
        pass
    assert lock in forks._renewables


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_guard_that_a_thread_of_the_parent_held_is_free_in_the_child() -> None:
    lock = ForkSafeLock()
    with lock:
        child = os.fork()
        if child == 0:  # pragma: no cover - in the child, where nothing is measured
            with lock:
                os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
