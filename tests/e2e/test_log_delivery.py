"""Standard output that is full, closed, stalled or gone, in real processes: nobody waits, and the count is exact."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import Any

import orjson
import pytest

from tests.e2e.processes import DEADLINE, serving, start

LINES = 3_000
LOST = "log records were lost"

Line = dict[str, Any]


def parsed(output: bytes) -> tuple[list[Line], int]:
    """The lines but those about losses, and the sum of these."""
    lines = [orjson.loads(line) for line in output.splitlines()]
    return [line for line in lines if line["message"] != LOST], sum(line.get("lost", 0) for line in lines)


def totals(stderr: bytes) -> tuple[int, int]:
    """What was logged, and what of that was dropped."""
    logged, dropped = map(int, stderr.splitlines()[-1].split())
    return logged, dropped


@pytest.mark.parametrize("queue_size", [0, 10 * LINES])
def test_a_full_disk_behind_standard_output_costs_lines_and_nothing_else(queue_size: int) -> None:
    with open("/dev/full", "w") as full:  # noqa: PTH123
        process = start("write_stdout", queue_size, LINES, stdout=full, stderr=subprocess.PIPE)
        logged, dropped = totals(process.communicate(timeout=DEADLINE)[1])
    # The first failure is reported, and the line that says so is lost as well.
    assert (logged, dropped) == (LINES + 1, LINES + 1)


def test_a_full_disk_behind_a_file_costs_lines_and_nothing_else() -> None:
    process = start("write_full_disk", LINES, stderr=subprocess.PIPE)
    logged, dropped = totals(process.communicate(timeout=DEADLINE)[1])
    assert process.returncode == 0
    assert (logged, dropped) == (LINES + 1, LINES + 1)


@pytest.mark.parametrize("queue_size", [0, 10 * LINES])
def test_a_closed_standard_output_costs_lines_and_nothing_else(queue_size: int) -> None:
    command = f"exec {sys.executable} -m tests.e2e.log_writer write_stdout {queue_size} {LINES} >&-"
    process = subprocess.run(["sh", "-c", command], stderr=subprocess.PIPE, timeout=DEADLINE, check=True)
    assert totals(process.stderr) == (LINES + 1, LINES + 1)


@pytest.mark.parametrize("queue_size", [0, 10 * LINES])
def test_a_reader_who_is_gone_costs_lines_and_nothing_else(queue_size: int) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    process = start("write_stdout", queue_size, LINES, stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    assert totals(process.communicate(timeout=DEADLINE)[1]) == (LINES + 1, LINES + 1)


def test_every_request_is_answered_with_a_full_disk() -> None:
    with open("/dev/full", "w") as full:  # noqa: PTH123
        with serving("serve", 0, stdout=full, stderr=subprocess.PIPE) as (process, client):
            assert [client.get("/").status_code for _ in range(300)] == [200] * 300
            client.get("/stop")
            logged, dropped = totals(process.communicate(timeout=DEADLINE)[1])
    assert logged == dropped > 2 * 300


def test_without_a_queue_a_reader_who_has_stopped_is_told_what_was_lost_when_he_goes_on() -> None:
    with start(
        "write_stdout_in_steps", LINES, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdin.write(b".")
        process.stdin.flush()
        logged, dropped = totals(process.stderr.readline())
        assert logged == LINES + 1
        assert dropped > LINES / 2
        output, stderr = process.communicate(b".", timeout=DEADLINE)
    lines, announced = parsed(output)
    logged, dropped = totals(stderr)
    assert len(lines) + dropped == logged == 2 * LINES + 1
    assert announced == dropped
    assert lines[-1]["number"] == LINES - 1


def test_with_a_queue_requests_are_answered_while_nobody_reads_and_every_line_is_written_or_counted() -> None:
    requests = 1_500
    with serving("serve", 500, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as (process, client):
        statuses = [client.get("/").status_code for _ in range(requests)]
        client.get("/stop")
        output, stderr = process.communicate(timeout=DEADLINE)
    lines, announced = parsed(output)
    logged, dropped = totals(stderr)
    assert statuses == [200] * requests
    assert logged > 2 * requests
    assert dropped > requests
    assert len(lines) + dropped == logged
    assert announced == dropped


def test_a_process_ends_even_if_nobody_reads_what_waits() -> None:
    with start("write_stdout", 10 * LINES, LINES, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.wait(DEADLINE) == 0
        output, stderr = process.communicate()
    assert totals(stderr) == (LINES, 0)
    assert 0 < output.count(b"\n") < LINES


@pytest.mark.parametrize("program", ["serve_after", "serve_around"])
def test_every_line_until_the_end_is_written_when_a_server_is_terminated(program: str) -> None:
    with serving(program, stdout=subprocess.PIPE) as (process, client):
        for number in range(500):
            client.get("/", params={"number": number})
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=DEADLINE)
    lines, announced = parsed(output)
    messages = [line["message"] for line in lines]
    assert process.returncode == -signal.SIGTERM
    assert [line["number"] for line in lines if line["message"] == "handled"] == list(range(500))
    assert sum(line["component"] == "asgi_obs.request" for line in lines) == 500
    assert messages.index("the very last line") < messages.index(f"Finished server process [{process.pid}]")
    assert announced == 0


def test_forked_processes_write_their_own_lines_and_nobody_writes_one_twice() -> None:
    children, lines = 3, 1_000
    process = start("fork", children, lines, stdout=subprocess.PIPE)
    written, announced = parsed(process.communicate(timeout=DEADLINE)[0])
    by_process: dict[int, list[int]] = {}
    for line in written:
        by_process.setdefault(line["pid"], []).append(line["number"])
    assert by_process.pop(process.pid) == [*range(lines), *range(lines)]
    assert list(by_process.values()) == [list(range(lines))] * children
    assert announced == 0
