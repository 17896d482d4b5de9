from __future__ import annotations

import copy
import json
import logging
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from asgi_obs.logs import StructuredLogFormatter
from asgi_obs.logs.records import RequestRecord, make_record
from asgi_obs.redaction import Redactor

REDACTOR = Redactor(["token"])
LOGGER = logging.getLogger("test.records")


def make(failure: BaseException | None = None, **fields: Any) -> logging.LogRecord:
    return make_record(LOGGER, logging.WARNING, "GET /x\n 200", fields, redactor=REDACTOR, failure=failure)


@pytest.fixture
def factory() -> Iterator[None]:
    """A record factory of somebody else."""
    before = logging.getLogRecordFactory()

    def marking(*args: Any, **options: Any) -> logging.LogRecord:
        record = before(*args, **options)
        record.marked = True
        return record

    logging.setLogRecordFactory(marking)
    yield
    logging.setLogRecordFactory(before)


def test_a_record_is_what_logging_would_make() -> None:
    record = make(path="/x")
    theirs = LOGGER.makeRecord(LOGGER.name, logging.WARNING, record.pathname, record.lineno, record.msg, (), None)
    own = {name: value for name, value in record.__dict__.items() if name in theirs.__dict__}
    assert own.keys() == theirs.__dict__.keys()
    moving = {"created", "msecs", "relativeCreated", "taskName"}
    assert {n: v for n, v in own.items() if n not in moving} == {
        n: v for n, v in theirs.__dict__.items() if n not in moving
    }
    assert 0 <= theirs.created - record.created < 60
    assert abs((theirs.relativeCreated - record.relativeCreated) - (theirs.created - record.created) * 1000) < 1
    assert record.msecs == int(record.created % 1 * 1000)


def test_fields_are_read_as_attributes_as_with_extra() -> None:
    record: Any = make(path="/x")
    assert record.path == "/x"
    assert not hasattr(record, "route")


def test_the_message_is_one_printable_line() -> None:
    assert make().getMessage() == "GET /x\\n 200"


def test_a_failure_is_the_exception_of_the_record() -> None:
    error = ValueError("x")
    assert make(failure=error).exc_info == (ValueError, error, None)
    assert make().exc_info is None


def test_records_do_not_share_attributes() -> None:
    first: Any = make(path="/1")
    second: Any = make(path="/2")
    first.mine = True
    assert (first.path, second.path) == ("/1", "/2")
    assert not hasattr(second, "mine")


def test_a_record_names_the_thread_it_was_made_in() -> None:
    records: list[logging.LogRecord] = []
    thread = threading.Thread(target=lambda: records.append(copy.copy(make())), name="worker-7")
    thread.start()
    thread.join()
    assert (records[0].threadName, records[0].thread) == ("worker-7", thread.ident)


def test_threads_are_left_out_when_logging_leaves_them_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging, "logThreads", False)
    assert make().thread is None


@pytest.mark.usefixtures("factory")
def test_the_record_factory_of_somebody_else_is_used() -> None:
    record = make(path="/x", failure=KeyError("x"))
    assert record.__dict__["marked"] is True
    assert record.__dict__["path"] == "/x"
    assert record.exc_info is not None
    assert not isinstance(record, RequestRecord)


def test_the_make_record_of_a_logger_of_another_class_is_used() -> None:
    class Special(logging.Logger):
        def makeRecord(self, *args: Any, **options: Any) -> logging.LogRecord:
            record = super().makeRecord(*args, **options)
            record.msg = "special"
            return record

    assert make_record(Special("s"), logging.INFO, "m", {}, redactor=REDACTOR).msg == "special"


def untouched(record: logging.LogRecord, redactor: Redactor = REDACTOR) -> bool:
    assert isinstance(record, RequestRecord)
    return record.is_as_made_for(redactor)


def test_a_record_is_written_as_it_was_made_unless_somebody_changed_it() -> None:
    changed, added, failed = make(path="/x"), make(path="/x"), make(failure=ValueError("x"))
    changed.path = "/scrubbed"
    added.password = "x"
    assert untouched(make(path="/x"))
    assert [untouched(record) for record in (changed, added, failed)] == [False, False, False]


def test_a_record_that_another_redactor_has_redacted_is_looked_at_again() -> None:
    assert not untouched(make(path="/x"), Redactor(["other"]))


def test_a_copied_record_can_be_read_but_is_looked_at_again() -> None:
    record: Any = copy.copy(make(path="/x"))
    assert record.path == "/x"
    assert not untouched(record)


def test_a_record_can_be_sent_to_another_process() -> None:
    record = pickle.loads(pickle.dumps(make(path="/x")))  # noqa: S301 - as a queue between processes does
    assert record.path == "/x"
    assert pickle.loads(pickle.dumps(record)).path == "/x"  # noqa: S301 - as above, once more
    assert json.loads(StructuredLogFormatter("x").format(record))["path"] == "/x"


def test_a_child_process_has_its_own_number() -> None:
    program = """if True:
        import logging, os
        from asgi_obs.logs.records import make_record
        from asgi_obs.redaction import Redactor
        if os.fork():
            raise SystemExit(os.waitstatus_to_exitcode(os.wait()[1]))
        record = make_record(logging.getLogger(), 20, "m", {}, redactor=Redactor([]))
        os._exit(0 if record.process == os.getpid() else 1)
    """
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_what_logging_would_have_put_in_is_there_for_a_formatter_of_somebody_else() -> None:
    formatter = logging.Formatter("%(asctime)s %(levelname)s %(process)d %(threadName)s %(funcName)s %(message)s")
    line = formatter.format(make(path="/x"))
    assert line.endswith(f" WARNING {os.getpid()} {threading.current_thread().name} None GET /x\\n 200")
