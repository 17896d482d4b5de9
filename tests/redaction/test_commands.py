from __future__ import annotations

import pytest

from asgi_obs.redaction.commands import redact_commands


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        ("AUTH hunter2", "AUTH ******"),
        ("AUTH secret", "AUTH ******"),
        ("AUTH default hunter2", "AUTH ******"),
        ("a\nPASS hunter2\r\nb", "a\nPASS ******\r\nb"),
        ("> PASS hunter2", "> PASS ******"),
        ("C: PASS hunter2", "C: PASS ******"),
        ("*cmd* 'PASS hunter2'", "*cmd* 'PASS ******'"),
        (r"send: 'AUTH PLAIN AGFubgBodW50ZXIy\r\n'", r"send: 'AUTH ******\r\n'"),
        (r"b'USER ann\r\nPASS hunter2\r\n'", r"b'USER ann\r\nPASS ******\r\n'"),
        ("(AUTH hunter2) of pipeline", "(AUTH ******) of pipeline"),
        ("'PASS it's7'", "'PASS ******'"),
    ],
)
def test_arguments_of_protocol_commands_are_masked(text: str, redacted: str) -> None:
    assert redact_commands(text) == redacted


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        ("mysql -phunter2", "mysql -p******"),
        ("/usr/bin/mysqldump -u root -phunter2 shop | gzip", "/usr/bin/mysqldump -u root -p****** shop | gzip"),
        ("mariadb-admin -p'a b' ping", "mariadb-admin -p****** ping"),
        ('mysql -p"a b" shop', "mysql -p****** shop"),
        ("['mysql', '-phunter2', 'shop']", "['mysql', '-p******', 'shop']"),
        (r"'\nmysql -phunter2'", r"'\nmysql -p******'"),
        ("mysql -pa ; mysql -pb", "mysql -p****** ; mysql -p******"),
    ],
)
def test_passwords_of_the_clients_of_mysql_are_masked(text: str, redacted: str) -> None:
    assert redact_commands(text) == redacted


@pytest.mark.parametrize(
    "text",
    [
        "the tests PASS now",
        "it is a PASS mark",
        "PASS",
        "PASS src/app.test.js",
        "Pass hunter2",
        "AUTH failed",
        "AUTH ann failed.",
        "AUTH service started",
        "AUTH LOGIN",
        "AUTH failed for ann",
        "mysql -p shop",
        "mysql -P3306",
        "mysql --port=3306",
        "docker run mysql -p3306:3306",
        "mysql -u ann; ps -p123",
        "ps -p123",
    ],
)
def test_what_is_no_command_stays(text: str) -> None:
    assert redact_commands(text) == text
