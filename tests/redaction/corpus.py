"""Secrets of every kind, the positions they are logged in, and innocent texts that look a little like them.

Nothing here opens anything. What services would recognise is put together at run time, for scanners of repositories.
"""

from __future__ import annotations

import base64
import builtins
import json
import logging
import random
import string
import xml.sax.saxutils
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.cookies import SimpleCookie
from typing import Any, Final, NamedTuple
from urllib.parse import quote, urlencode

import pytest
from pydantic import BaseModel, Field, ValidationError

from asgi_obs import LogContext

_RANDOM: Final = random.Random(2025)  # noqa: S311 - the same corpus every time
_ALPHANUMERIC: Final = string.ascii_letters + string.digits
_HEX: Final = "0123456789abcdef"


def _chars(length: int, alphabet: str = _ALPHANUMERIC) -> str:
    """Random characters, with a digit and both cases among the first if the alphabet has them."""
    start = "k7Q" if alphabet == _ALPHANUMERIC else ""
    return start + "".join(_RANDOM.choices(alphabet, k=length - len(start)))


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _jwt(header: dict[str, Any], parts: int = 3) -> str:
    claims = _base64url(json.dumps({"sub": _chars(6), "exp": 1_900_000_000}).encode())
    return ".".join((_base64url(json.dumps(header).encode()), claims, *(_chars(43) for _ in range(parts - 2))))


def _luhn(prefix: str, length: int) -> str:
    """A number of this length that begins like this and has a valid check digit."""
    body = prefix + _chars(length - len(prefix) - 1, string.digits)
    digits = [int(digit) for digit in reversed(body)]
    total = sum(digits[1::2]) + sum(sum(divmod(2 * digit, 10)) for digit in digits[::2])
    return body + str(-total % 10)


def _grouped(card: str, separator: str) -> str:
    ends = {15: (4, 10), 14: (4, 10)}.get(len(card), (4, 8, 12))
    return separator.join(card[start:end] for start, end in zip((0, *ends), (*ends, None), strict=True))


def _pem(kind: str, newline: str = "\n") -> str:
    lines = [_chars(64, _ALPHANUMERIC + "+/") for _ in range(4)]
    begin, end = f"-----BEGIN {kind}PRIVATE KEY-----", f"-----END {kind}PRIVATE KEY-----"
    return newline.join((begin, *lines, end))


WORDS: Final = (
    "hunter2",
    "correcthorsebatterystaple",
    "S3cr3tP4ss!",
    "Tr0ub4dor&3",
    "pä$$wörd-ünïcode",
    "пароль-наоборот",
    "密码一二三四五六",
    "🔑opensesame🔑",
    "0xDEADC0FFEE",
    "12345678901",
    "00112233",
    "monkey-dragon_99",
    "letmein.please",
    "a1b2c3d4e5f6",
    "~tilde~wave~",
    "percent%41sign",
    "star*star*star",
    "caret^hat^down",
    "plus+minus-equals",
    "under_score_only",
    "UPPERCASEONLY",
    "MixedCaseOnly",
    "dollar$HOME$x",
    "hash#tag#7",
    "query?mark?7",
    "slash/path/7",
    "colon:seven:7",
    "at@sign@7",
    "p@ss/w?rd#7",
    "bang!bang!7",
    "back\\slash7",
    "pipe|pipe|7",
    "tick`tick`7",
    "ünïcödé7",
    "ßtraße-99",
    "zero\u200bwidth7",
    "trailing.dot7",
    *(_chars(length) for length in range(12, 42, 2)),
)
"""Passwords without white space, quotes, brackets, `,`, `;` and `&`."""

PHRASES: Final = (
    "correct horse battery staple",
    "with 'single' quotes",
    'with "double" quotes',
    'it\'s "both" of them',
    "comma, semicolon; ampersand & more",
    "brackets (round) [square] {curly}",
    "unbalanced ) ] } ( [ {",
    "ends with backslash\\",
    'back\\slash and \\" quote',
    "tab\tinside of it",
    "line\nbreak inside",
    "<xml attribute='x'> & entity",
    "key=value; other: thing",
    "emoji 🔐 and space",
    "ümläut ßpace É",
    "trailing quote'",
    '"leading quote',
    "a/b?c=d&e=f#g h",
    "100% sure; 50% not",
    "sql ' OR 1=1 --",
    "{'looks': 'like repr'}",
    '{"looks": "like json"}',
    "null but not",
    "two  spaces",
)
"""Passwords with anything; they can be found in quotes and in structures."""

TOKENS: Final = (
    *("AKIA" + _chars(16, string.ascii_uppercase + "234567") for _ in range(3)),
    "ASIA" + _chars(16, string.ascii_uppercase + "234567"),
    *(f"gh{kind}_{_chars(36)}" for kind in "pousr"),
    "github_pat_" + _chars(22) + "_" + _chars(59),
    "glpat-" + _chars(20),
    "glrt-" + _chars(20),
    *(f"xox{kind}-{_chars(12, string.digits)}-{_chars(24)}" for kind in "abeprs"),
    "xapp-1-A" + _chars(10) + "-" + _chars(30),
    *(f"{kind}_{mode}_{_chars(24)}" for kind in ("sk", "rk") for mode in ("live", "test")),
    "whsec_" + _chars(32),
    "AIza" + _chars(35),
    "ya29." + _chars(60),
    "GOCSPX-" + _chars(28),
    "npm_" + _chars(36),
    "pypi-AgEIcHlwaS5vcmc" + _chars(70),
    "SG." + _chars(22) + "." + _chars(43),
    "sk-" + _chars(48),
    "sk-proj-" + _chars(48),
    "sk-svcacct-" + _chars(48),
    "sk-ant-api03-" + _chars(90),
    "hf_" + _chars(34),
    *(f"do{kind}_v1_{_chars(64, _HEX)}" for kind in "opr"),
    "1234567890:AA" + _chars(33),
    *(f"shp{kind}_{_chars(32, _HEX)}" for kind in ("at", "ca", "pa", "ss")),
    "SK" + _chars(32, _HEX),
    "hvs." + _chars(90),
    "hvb." + _chars(90),
    "dapi" + _chars(32, _HEX),
    "key-" + _chars(32, _HEX),
    "sq0atp-" + _chars(22),
    "dckr_pat_" + _chars(27),
    "glsa_" + _chars(32) + "_" + _chars(8, _HEX),
    "rubygems_" + _chars(48, _HEX),
    "ATATT3" + _chars(60),
    "sntrys_" + _chars(60),
    "NRAK-" + _chars(27, string.ascii_uppercase),
    "lin_api_" + _chars(40),
    "PMAK-" + _chars(24, _HEX) + "-" + _chars(34, _HEX),
    "AGE-SECRET-KEY-1" + _chars(58, string.ascii_uppercase),
    *(_jwt({"alg": algorithm, "typ": "JWT"}) for algorithm in ("HS256", "RS256", "ES256", "EdDSA")),
    _jwt({"alg": "none"}) + ".",
    _jwt({"typ": "JWT", "alg": "HS512", "kid": "2025-01"}),
    *(_jwt({"alg": "RSA-OAEP", "enc": encryption}, parts=5) for encryption in ("A256GCM", "A128CBC-HS256")),
)
"""In one word, known by their looks."""

BLOCKS: Final = tuple(_pem(kind) for kind in ("", "RSA ", "EC ", "DSA ", "OPENSSH ", "ENCRYPTED "))
"""Known by their looks, over several lines."""

_NUMBERS: Final = (
    *(_luhn("4", 16) for _ in range(4)),
    *(_luhn(prefix, 16) for prefix in ("51", "53", "55", "2221", "2345", "2720")),
    *(_luhn(prefix, 15) for prefix in ("34", "37")),
    *(_luhn(prefix, 16) for prefix in ("6011", "644", "65", "3528", "3589", "62")),
    *(_luhn(prefix, 14) for prefix in ("300", "36", "38")),
    _luhn("4", 13),
    _luhn("4", 19),
    _luhn("5018", 16),
    "4111111111111111",
    "5555555555554444",
    "378282246310005",
)
CARDS: Final = (
    *_NUMBERS,
    *(_grouped(number, separator) for number in _NUMBERS[:14] for separator in " -"),
)

SECRETS: Final = (*WORDS, *PHRASES, *TOKENS, *BLOCKS, *CARDS)


@dataclass
class Account:
    name: str
    password: str


class Login(BaseModel):
    user: str
    api_key: str


class Registration(BaseModel):
    user: str
    password: str = Field(min_length=10_000)


class Pair(NamedTuple):
    host: str
    token: str


class Client:
    def __init__(self, secret: str) -> None:
        self.secret = secret

    def __repr__(self) -> str:
        return f"Client(host='h', secret={self.secret!r})"


class LoginError(Exception):
    pass


Position = Callable[[logging.Logger, str], object]


def _raise(log: logging.Logger, error: BaseException, cause: BaseException | None = None) -> None:
    try:
        raise error from cause
    except BaseException:
        log.exception("it failed")


def _group(log: logging.Logger, secret: str) -> None:
    """An exception group; Python 3.10 has none, there the cause stands for it."""
    inner = ValueError({"password": secret})
    group = getattr(builtins, "ExceptionGroup", None)
    _raise(log, group("many", [inner]) if group else LoginError("many"), inner)


def _in_context(log: logging.Logger, **fields: Any) -> None:
    with LogContext(**fields):
        log.info("in a context")


def _json(secret: str, **options: Any) -> str:
    return json.dumps({"user": "ann", "password": secret, "n": 1}, **options)


def _validation_error(secret: str) -> ValidationError:
    with pytest.raises(ValidationError) as caught:
        Registration(user="ann", password=secret)
    return caught.value


def _xml(secret: str) -> str:
    return xml.sax.saxutils.escape(secret)


IN_STRUCTURES: Final[dict[str, Position]] = {
    "extra": lambda log, s: log.info("m", extra={"password": s}),
    "extra, camel case": lambda log, s: log.info("m", extra={"userAccessToken": s}),
    "nested dictionary": lambda log, s: log.info("m", extra={"a": {"b": {"c": {"db_password": s, "d": 1}}}}),
    "list of dictionaries": lambda log, s: log.info("m", extra={"rows": [{"id": 1}, {"id": 2, "secret": s}]}),
    "tuple of dictionaries": lambda log, s: log.info("m", extra={"rows": ({"X-Api-Key": s},)}),
    "list under a key": lambda log, s: log.info("m", extra={"tokens": [s, s]}),
    "dictionary under a key": lambda log, s: log.info("m", extra={"credentials": {"user": "ann", "x": s}}),
    "pair": lambda log, s: log.info("m", extra={"pair": ("password", s)}),
    "pair of lists": lambda log, s: log.info("m", extra={"pairs": [["token", s], ["a", "b"]]}),
    "name and value": lambda log, s: log.info("m", extra={"env": [{"name": "DB_PASSWORD", "value": s}]}),
    "list of headers": lambda log, s: log.info("m", extra={"headers": [(b"authorization", s.encode())]}),
    "dictionary of headers": lambda log, s: log.info("m", extra={"headers": {"Cookie": s, "accept": "*/*"}}),
    "dictionary of bytes": lambda log, s: log.info("m", extra={"h": {b"set-cookie": s.encode()}}),
    "dataclass": lambda log, s: log.info("m", extra={"account": Account("ann", s)}),
    "model": lambda log, s: log.info("m", extra={"login": Login(user="ann", api_key=s)}),
    "named tuple": lambda log, s: log.info("m", extra={"pair": Pair("h", s)}),
    "other mapping": lambda log, s: log.info("m", extra={"data": OrderedDict(private_key=s)}),
    "object with a repr": lambda log, s: log.info("m", extra={"client": Client(s)}),
    "exception in a field": lambda log, s: log.info("m", extra={"failure": ValueError({"token": s})}),
    "validation errors": lambda log, s: log.info("m", extra={"errors": _validation_error(s).errors()}),
    "command": lambda log, s: log.info("m", extra={"command": ["mysql", "--password", s, "-e", "x"]}),
    "cookies": lambda log, s: log.info("m", extra={"jar": SimpleCookie({"sid": s})}),
    "context": lambda log, s: _in_context(log, session=s),
    "abbreviated": lambda log, s: log.info("m", extra={"pwd": s, "db": {"passwd": s, "dbPass": s}, "pass": s}),
    "keys of Azure": lambda log, s: log.info("m", extra={"azure": {"AccountKey": s, "shared_access_key": s}}),
    "nested in a context": lambda log, s: _in_context(log, job={"session_id": s}),
}
"""Any secret in a structure."""

IN_QUOTES: Final[dict[str, Position]] = {
    "dictionary as an argument": lambda log, s: log.info("got %s", {"password": s, "a": 1}),
    "list as an argument": lambda log, s: log.info("got %s and %r", [{"user": "ann"}, {"token": s}], 5),
    "dictionary as the message": lambda log, s: log.info({"password": s}),
    "pair as an argument": lambda log, s: log.info("got %s", [("token", s), ("a", "b")]),
    "headers as an argument": lambda log, s: log.info("got %s", [(b"authorization", s.encode()), (b"a", b"b")]),
    "repr in an f-string": lambda log, s: log.info(f"connect(user='ann', password={s!r}, n=1)"),
    "dataclass as an argument": lambda log, s: log.info("got %s", Account("ann", s)),
    "model as an argument": lambda log, s: log.info("got %r", Login(user="ann", api_key=s)),
    "named tuple as an argument": lambda log, s: log.info("got %s", Pair("h", s)),
    "list under a key, in a message": lambda log, s: log.info("tokens=%r, n=1", [s, s]),
    "JSON in a message": lambda log, s: log.info("body: %s", _json(s)),
    "JSON, compact": lambda log, s: log.info(_json(s, separators=(",", ":"))),
    "JSON, indented": lambda log, s: log.info(_json(s, indent=2)),
    "JSON, not ASCII": lambda log, s: log.info(_json(s, ensure_ascii=False)),
    "JSON in a field": lambda log, s: log.info("m", extra={"body": _json(s)}),
    "JSON in bytes": lambda log, s: log.info("m", extra={"body": _json(s).encode()}),
    "JSON in JSON": lambda log, s: log.info(json.dumps({"payload": _json(s), "a": 1})),
    "JSON in JSON in JSON": lambda log, s: log.info(json.dumps({"a": json.dumps({"b": _json(s)})})),
    "repr of JSON": lambda log, s: log.info("%r", [_json(s)]),
    "JSON cut off": lambda log, s: log.info(_json(s)[: _json(s).rindex('"n"') - 4]),
    "name and value in JSON": lambda log, s: log.info(json.dumps([{"name": "password", "value": s}])),
    "exception": lambda log, s: _raise(log, ValueError({"password": s})),
    "chained exception": lambda log, s: _raise(log, LoginError("no"), ValueError({"password": s})),
    "exception group": _group,
    "SQL parameters": lambda log, s: _raise(
        log,
        LoginError(f"(E) failed\n[SQL: CALL login(?, ?)]\n[parameters: {('ann', s)!r}]\n(Background)"),
    ),
    "SQL parameters, many": lambda log, s: log.error("failed [parameters: %r]", [{"a": "ann", "b": s}, {"a": s}]),
    "SQL echo": lambda log, s: log.info("[generated in 0.00015s] %r", ("ann", s)),
    "SQL echo, cached": lambda log, s: log.info("[cached since 1.2s ago] %r", {"name": "ann", "x": s}),
    "SQL literal": lambda log, s: log.info("UPDATE users SET password = '%s' WHERE id = 5", s.replace("'", "''")),
    "SQL insert": lambda log, s: log.info("INSERT INTO users (name, password) VALUES ('ann', %r)", s),
    "SQL comparison": lambda log, s: log.info("SELECT 1 FROM s WHERE token IN ('%s', 'b')", s.replace("'", "''")),
    "SQL select": lambda log, s: log.info("INSERT INTO users (name, password) SELECT 'ann', %r", s),
    "SQL row": lambda log, s: log.info("UPDATE users SET (name, password) = ('ann', %r)", s),
    "row of SQLAlchemy": lambda log, s: log.debug("Row %r", (1, s)),
    "annotated source": lambda log, s: log.info("    password: str | None = %r", s),
    "default in source": lambda log, s: log.info("    password = os.environ.get('PASSWORD') or %r", s),
    "condition in source": lambda log, s: log.info("    password = 'a' if debug else %r", s),
    "validation error": lambda log, s: _raise(log, _validation_error(s)),
    "validation errors in a message": lambda log, s: log.info("got %s", _validation_error(s).errors()),
    "validation errors in JSON": lambda log, s: log.info(_validation_error(s).json()),
    "SQL password": lambda log, s: log.info("ALTER USER ann WITH PASSWORD '%s'", s.replace("'", "''")),
    "options in a list": lambda log, s: log.info("run %r", ["login", "--password", s, "--verbose"]),
    "multipart body": lambda log, s: log.info(
        '--b\r\nContent-Disposition: form-data; name="password"\r\n\r\n' + s + "\r\n--b--\r\n"
    ),
    "abbreviated, in quotes": lambda log, s: log.info("got %r", {"pwd": s, "passwd": s, "db_pass": s, "pass": s}),
    "XML element": lambda log, s: log.info(f"<login><user>ann</user><password>{_xml(s)}</password></login>"),
    "URL query": lambda log, s: log.info("GET https://h/x?%s failed", urlencode({"a": 1, "token": s})),
    "URL query in a field": lambda log, s: log.info("m", extra={"url": f"https://h/?token={quote(s, safe='')}&a=1"}),
    "URL fragment": lambda log, s: log.info("https://h/cb#access_token=%s", quote(s, safe="")),
    "URL userinfo, quoted": lambda log, s: log.info("connecting to postgres://ann:%s@db/x", quote(s, safe="")),
    "query": lambda log, s: log.info("m", extra={"query": urlencode({"a": 1, "api_key": s})}),
    "signature": lambda log, s: log.info("GET https://h/x?se=1&%s failed", urlencode({"sig": s, "a": 1})),
    "signature in a path": lambda log, s: log.info("GET /x?%s failed", urlencode({"sig": s, "a": 1})),
    "signature in a query": lambda log, s: log.info("m", extra={"query": urlencode({"sig": s, "pass": s})}),
    "form body": lambda log, s: log.info("body: %s", urlencode({"user": "ann", "password": s})),
    "form body in bytes": lambda log, s: log.info("m", extra={"body": urlencode({"password": s, "a": 1}).encode()}),
    "percent-encoded": lambda log, s: log.info("next=%s", quote(urlencode({"password": s, "a": 1}), safe="")),
    "percent-encoded JSON": lambda log, s: log.info("state=%s", quote(_json(s), safe="")),
}
"""Any secret that is quoted, escaped or printed in the way of its surroundings."""

BEFORE_A_BLANK: Final[dict[str, Position]] = {
    "f-string": lambda log, s: log.info(f"login of ann with password={s} failed"),
    "f-string, colon": lambda log, s: log.info(f"password: {s}"),
    "argument": lambda log, s: log.info("token=%s user=%s", s, "ann"),
    "arguments by name": lambda log, s: log.info("secret=%(secret)s", {"secret": s}),
    "logfmt": lambda log, s: log.info(f"level=info user=ann db.password={s} took=5ms"),
    "colours": lambda log, s: log.info(f"\x1b[36mpassword\x1b[0m=\x1b[35m{s}\x1b[0m"),
    "encoded key": lambda log, s: log.info("user%5Bpassword%5D={}&a=1".format(quote(s, safe=""))),
    "hidden key": lambda log, s: log.info("/x?a=1&pass%77ord={}".format(quote(s, safe=""))),
    "cookie of a jar": lambda log, s: log.info(f"<Cookies[<Cookie sid={s} for x />]>"),
    "cookies": lambda log, s: log.info(f"cookies: a=1; sid={s}"),
    "option": lambda log, s: log.info(f"run --user ann --password {s} --verbose"),
    "option with =": lambda log, s: log.info(f"run --api-key={s} --verbose"),
    "abbreviated option": lambda log, s: log.info(f"run --user ann --pass {s} --verbose"),
    "option of MySQL": lambda log, s: log.info(f"mysqldump -u root -p{s} shop"),
    "connection string": lambda log, s: log.info(f"Server=db;Uid=sa;Pwd={s};Encrypt=yes"),
    "connection string of Azure": lambda log, s: log.info(f"AccountName=shop;AccountKey={s};EndpointSuffix=x"),
    "abbreviated": lambda log, s: log.info(f"passwd={s} pass={s} DB_PASS={s} smtpPass: {s}"),
    "command of POP3": lambda log, s: log.info(f"C: PASS {s}"),
    "command of FTP": lambda log, s: log.info(f"< 331 go on\r\n> PASS {s}\r\n< 530 no"),
    "command of Redis": lambda log, s: _raise(log, LoginError(f"AUTH {s}")),
    "command of Redis in a pipeline": lambda log, s: log.info(f"Command # 1 (AUTH {s}) of pipeline caused error: no"),
    "environment": lambda log, s: log.info(f"HOME=/root\nDB_PASSWORD={s}\nPATH=/bin"),
    "command": lambda log, s: log.info(f"PGPASSWORD={s} psql -h db"),
    "YAML": lambda log, s: log.info(f"db:\n  user: ann\n  password: {s}\n  port: 5"),
    "key of PostgreSQL": lambda log, s: log.info(f"Key (user_id, token)=(5, {s}) already exists"),
    "row of PostgreSQL": lambda log, s: log.info(f"Failing row contains (5, ann, {s})."),
    "header": lambda log, s: log.info(f"Authorization: Bearer {s}"),
    "header of another scheme": lambda log, s: log.info(f"> Proxy-Authorization: Custom a {s}\r\n> Accept: */*"),
    "cookie": lambda log, s: log.info(f"Cookie: a=1; sid={s}; b=2"),
    "set-cookie": lambda log, s: log.info(f"Set-Cookie: sid={s}; Path=/; HttpOnly"),
    "exception text": lambda log, s: _raise(log, LoginError(f"cannot log in: password={s}")),
    "URL userinfo": lambda log, s: log.info(f"connecting to redis://:{s}@cache:6379/0"),
}
"""Secrets in one word, written as they are."""

BARE: Final[dict[str, Position]] = {
    "alone": lambda log, s: log.info(s),
    "in a sentence": lambda log, s: log.info(f"it sent {s} to us"),
    "as an argument": lambda log, s: log.info("it sent %s.", s),
    "in quotes": lambda log, s: log.info("it sent %r", s),
    "in a field": lambda log, s: log.info("m", extra={"note": s}),
    "in a list": lambda log, s: log.info("m", extra={"notes": ["a", [s]]}),
    "in a set": lambda log, s: log.info("m", extra={"notes": {s}}),
    "as a key": lambda log, s: log.info("m", extra={"by_note": {s: 1}}),
    "in bytes": lambda log, s: log.info("m", extra={"note": s.encode()}),
    "in an exception": lambda log, s: _raise(log, LoginError(f"cannot use {s}")),
    "in a name": lambda log, s: _in_context(log, note=f"it is {s}!"),
    "in JSON": lambda log, s: log.info(json.dumps({"note": s})),
    "behind a line end": lambda log, s: log.info(json.dumps({"note": f"x\n{s}"})),
    "behind a byte": lambda log, s: log.info("%r", f"\x01{s}".encode()),
    "coloured": lambda log, s: log.info(f"\x1b[32m{s}\x1b[0m"),
    "in a parameter": lambda log, s: log.info(f"/x?q=%22{s}%22"),
}
"""Secrets that are known by their looks, without a name."""

POSITIONS: Final = (
    *((name, position, SECRETS) for name, position in IN_STRUCTURES.items()),
    *((name, position, SECRETS) for name, position in IN_QUOTES.items()),
    *((name, position, (*WORDS, *TOKENS)) for name, position in BEFORE_A_BLANK.items()),
    *((name, position, (*TOKENS, *BLOCKS, *CARDS)) for name, position in BARE.items()),
)


def forms(secret: str) -> Iterator[str]:
    """A secret as it may be written."""
    yield secret
    yield repr(secret)[1:-1]
    yield json.dumps(secret)[1:-1]
    yield json.dumps(secret, ensure_ascii=False)[1:-1]
    yield json.dumps(json.dumps(secret))[3:-3]
    yield quote(secret)
    yield quote(secret, safe="")
    yield from (line for line in secret.splitlines() if "PRIVATE KEY" in secret and "-----" not in line)
