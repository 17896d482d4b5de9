from __future__ import annotations

import pytest

from asgi_obs.redaction.keys import Words
from asgi_obs.redaction.pairs import READABLE, PairRules

RULES = PairRules(
    Words(["password", "token", "secret", "api_key", "private_key", "authorization", "cookie", "session"])
)


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        ("password=x", "password=******"),
        ("password = x, user=ann", "password = ******, user=ann"),
        ("DB_PASSWORD: x y", "DB_PASSWORD: ****** y"),
        ("token => abc", "token => ******"),
        ("token := abc", "token := ******"),
        ("if token == abc", "if token == ******"),
        ("if token != abc", "if token != ******"),
        ("accessToken:abc", "accessToken:******"),
        ("pass_word=x", "pass_word=******"),
        ("api key: abc", "api key: ******"),
        ("api.key=abc", "api.key=******"),
        ("my.private-key=abc", "my.private-key=******"),
        ("user[password]=x&a=1", "user[password]=******&a=1"),
        ("user[password][]=x", "user[password][]=******"),
        ("tokens[0]=x", "tokens[0]=******"),
        ("a;password=x;b=2", "a;password=******;b=2"),
        ("(password=x)", "(password=******)"),
        ("password=x\ttoken=y", "password=******\ttoken=******"),
        ("a" * 100 + "token=x", "a" * 100 + "token=******"),
        ("token" * 30 + "=x", "token" * 30 + "=******"),
        ("token=Bearer abc def", "token=****** def"),
        ("token=bearer", "token=******"),
        ("token=not.a.state", "token=******"),
        ("token=true-blue", "token=******"),
        ("password=invalid'x y", "password=****** y"),
        ("password          = x", "password          = ******"),
        ("password\u00a0:\u00a0x", "password\u00a0:\u00a0******"),
        ("password += 'x'", "password += '******'"),
        ("user%5Bpassword%5D=x&a=1", "user%5Bpassword%5D=******&a=1"),
        ("user%255Bpassword%255D%255B%255D=x", "user%255Bpassword%255D%255B%255D=******"),
    ],
)
def test_what_is_assigned_to_a_sensitive_key_is_masked(text: str, redacted: str) -> None:
    assert RULES.redact(text) == redacted


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        ('"password": "x"', '"password": "******"'),
        ("{'a': 1, 'password': 'x y', 'b': 2}", "{'a': 1, 'password': '******', 'b': 2}"),
        ("password=b'x'", "password=b'******'"),
        (r"{\"password\": \"x\", \"a\": 1}", r"{\"password\": \"******\", \"a\": 1}"),
        (r"{\\\"token\\\": \\\"x\\\"}", r"{\\\"token\\\": \\\"******\\\"}"),
        ('"password":\n  "x"', '"password":\n  "******"'),
        ('os.environ["DB_PASSWORD"] = "x"', 'os.environ["DB_PASSWORD"] = "******"'),
        ("`token`: `x y`", "`token`: `******`"),
        ('password="x', 'password="******'),
        ("token: 'tis gone\nnext", "token: '******\nnext"),
        ("password = 'x\ny' z", "password = '******' z"),
        ("<user password='x' a='b'/>", "<user password='******' a='b'/>"),
    ],
)
def test_what_is_in_quotes_is_masked_between_them(text: str, redacted: str) -> None:
    assert RULES.redact(text) == redacted


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        ("tokens=['a', 'b'], n=1", "tokens=******, n=1"),
        ('"session": {"a": {"b": "}"}}, "n": 1', '"session": ******, "n": 1'),
        ("password=SecretStr('x') n", "password=****** n"),
        ("token=<Token x> n", "token=****** n"),
        ("token=[a", "token=******"),
        ("token = f(\nnext", "token = ******\nnext"),
        ('  token = f(\n    "x",\n  )\nnext', "  token = ******\nnext"),
        ('tokens: [\n"x"\n]\nnext', "tokens: ******\nnext"),
        ("token: (a\n  b\n c", "token: ******"),
        ("prompt_tokens_details={'a': 1}", "prompt_tokens_details=******"),
    ],
)
def test_structures_are_masked_whole(text: str, redacted: str) -> None:
    assert RULES.redact(text) == redacted


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        ("Authorization: Custom a b, c", "Authorization: ******"),
        ("Cookie: a=1; b=2\r\nAccept: */*", "Cookie: ******\r\nAccept: */*"),
        (r"Cookie: a=1; b=2\r\nAccept: */*", r"Cookie: ******\r\nAccept: */*"),
        ("curl -H 'Authorization: Bearer x' https://h", "curl -H 'Authorization: ******' https://h"),
        ("curl -H 'Cookie: a", "curl -H 'Cookie: ******"),
        ("cookies={'a': 'b'} n", "cookies=****** n"),
        ("cookie={'a': 'b'} n", "cookie=****** n"),
        ("{'authorization': 'Bearer x'}", "{'authorization': '******'}"),
        ("cookie_domain=x y", "cookie_domain=****** y"),
        ("authorization: missing", "authorization: missing"),
        ("cookies: a=1; sid=x", "cookies: ******"),
        ("cookies: a b", "cookies: ****** b"),
        ("Cookie: (see RFC 6265\nnext", "Cookie: ******\nnext"),
    ],
)
def test_headers_are_masked_to_the_end_of_the_line_or_of_their_string(text: str, redacted: str) -> None:
    assert RULES.redact(text) == redacted


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        ("password%3Dhunter2%26user%3Dann", "password%3D******%26user%3Dann"),
        ("password%253Dhunter2%2526user", "password%253D******%2526user"),
        ("%22password%22%3A%20%22a%20%5C%22b%22%7D", "%22password%22%3A%20%22******%22%7D"),
        ("token%3Da%2526b%26c", "token%3D******%26c"),
        ("%22token%22%3A%22a%27b%22%2C", "%22token%22%3A%22******%22%2C"),
        ("token%3D%26", "token%3D%26"),
    ],
)
def test_percent_encoded_pairs_are_masked(text: str, redacted: str) -> None:
    assert RULES.redact(text) == redacted


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        ("[('password', 'x'), ('a', 'b')]", "[('password', '******'), ('a', 'b')]"),
        ("(b'authorization', b'Bearer x')", "(b'authorization', b'******')"),
        ('["token", 5]', '["token", ******]'),
        ("('token', 'x', 'y')", "('token', 'x', 'y')"),
        ("f(a, 'token', 'x')", "f(a, 'token', 'x')"),
        ("(token, other)", "(token, other)"),
        ("('token', '" + "x" * 1001 + "', 5)", "('token', '******', 5)"),
        ("['--password', 'x', '-v']", "['--password', '******', '-v']"),
        ("['--token', x, '-v']", "['--token', ******, '-v']"),
        ("--password hunter2 -v", "--password ****** -v"),
        ("--token 'a b' -v", "--token '******' -v"),
        ("-token x", "-token ******"),
        ("--password --user ann", "--password --user ann"),
        ("a token x", "a token x"),
        ('{"name": "password", "value": "x"}', '{"name": "password", "value": "******"}'),
        ('<property name="token" value="x"/>', '<property name="token" value="******"/>'),
        ('<input name="token" id="a" value="x">', '<input name="token" id="a" value="******">'),
        ('<input name="token" id="a">', '<input name="token" id="a">'),
        ('{"name": "token", "type": 5, "value": "x"}', '{"name": "token", "type": 5, "value": "******"}'),
        ("token, value: 5", "token, value: 5"),
    ],
)
def test_pairs_options_and_named_values_are_masked(text: str, redacted: str) -> None:
    assert RULES.redact(text) == redacted


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        ("<password>a b</password><n>1</n>", "<password>******</password><n>1</n>"),
        ('<password type="text">a</password>', '<password type="text">******</password>'),
        ("<ns:token>a<b/></ns:token>", "<ns:token>******</ns:token>"),
        ("<token>abc", "<token>******"),
        ("login <password> now", "login <password> now"),
        ("<password></password>", "<password></password>"),
        ("a token> b", "a token> b"),
    ],
)
def test_elements_of_xml_are_masked(text: str, redacted: str) -> None:
    assert RULES.redact(text) == redacted


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        ('name="password"\r\n\r\nx y\r\n--b--', 'name="password"\r\n\r\n******\r\n--b--'),
        ('name="token"; filename="a"\nA: b\n\nx', 'name="token"; filename="a"\nA: b\n\n******'),
        (r"name=\"password\"\r\n\r\nx\r\n--b", r"name=\"password\"\r\n\r\n******\r\n--b"),
        ('name="password"\r\nno end', 'name="password"\r\nno end'),
        ('id="password"\r\n\r\nx', 'id="password"\r\n\r\nx'),
        ("password: |\n  x\n  y\nuser: ann", "password: |\n******\nuser: ann"),
        ("passwords:\n  - a\n  - b\nuser: ann", "passwords:\n******\nuser: ann"),
        ("tokens:\n- a\n- b\nuser: ann", "tokens:\n******\nuser: ann"),
        ("password:\n  x\n", "password:\n******\n"),
        ("secrets:\n  db: x\nuser: ann", "secrets:\n******\nuser: ann"),
        ("- name: DB_PASSWORD\n  value: x\n", "- name: DB_PASSWORD\n  value: ******\n"),
        ("password: !!str x y", "password: !!str ****** y"),
        ("password:\n\nx", "password:\n\nx"),
    ],
)
def test_parts_of_forms_and_blocks_of_yaml_are_masked(text: str, redacted: str) -> None:
    assert RULES.redact(text) == redacted


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        ('def f(password: str = "x") -> None', "def f(password: ******) -> None"),
        ("password: Optional[str] = 'x'", "password: ******"),
        ("password: str | None = 'x'", "password: ******"),
        ("api_key: SecretStr = SecretStr('x')", "api_key: ******"),
        ("token: Token = None or 'x'", "token: ******"),
        ("password = 'a' if len(x) > 3 else 'x'", "password = ******"),
        ("token = token or other or 'x'", "token = ******"),
        ("password = None or 'x'", "password = ******"),
        ("password = 'a' + b + 'x' # y", "password = ****** # y"),
        ("where token = 'a' and name = 'ann'", "where token = '******' and name = 'ann'"),
        ("token: missing or wrong", "token: missing or wrong"),
    ],
)
def test_expressions_of_python_are_masked_whole(text: str, redacted: str) -> None:
    assert RULES.redact(text) == redacted


@pytest.mark.parametrize("word", sorted(READABLE))
def test_states_stay_readable(word: str) -> None:
    assert RULES.redact(f"token: {word}") == f"token: {word}"
    assert RULES.redact(f"Password={word.capitalize()}.") == f"Password={word.capitalize()}."


@pytest.mark.parametrize(
    "text",
    [
        "max_tokens=512",
        '{"prompt_tokens": 12, "tokens_per_second": 3.5}',
        "session_timeout=30",
        "token=",
        "tokens=[] session={} secret=()",
        "InvalidTokenError: Signature has it",
        "token::new",
        "secret://vault",
        "no key here",
        'password=""',
        "unexpected token: '}'",
        "Cost for 512 tokens: $0.02",
        "feature flag token_v2: on",
        "BGP session: up",
        "session.timeout.ms = 45000",
        "token_id=7 api_key_id=7 secretId=7",
        'prompt_tokens_details: {"cached_tokens": 0, "audio_tokens": 5}',
        "completion_tokens_details=CompletionTokensDetails(audio_tokens=0, reasoning_tokens=7)",
        "token_endpoint: https://h/oauth",
        "token_type=bearer",
        '"tokenType": "bearer"',
        "secret_name=db-main secret_version=v3",
        "password_changed_at=2026-01-02T03:04:05Z token_expires_at=5pm",
        "private_key_path=/etc/ssl/a.pem password_hash_algorithm=argon2id",
        "token",
    ],
)
def test_counts_and_what_is_no_value_stay(text: str) -> None:
    assert RULES.redact(text) == text


@pytest.mark.parametrize("text", ["token=5", "tokens=12345678", "session_id=5", "tokens=5x", "token_hash=ab"])
def test_numbers_that_count_nothing_are_masked(text: str) -> None:
    assert RULES.redact(text) == f"{text.partition('=')[0]}=******"


def test_a_text_with_very_many_values_is_masked_from_there_on() -> None:
    assert RULES.redact("token=x " * 2000 + "end").endswith("****** end")
    assert RULES.redact("token=x " * 2001 + "end").endswith("token=************")


def test_without_words_there_are_no_keys() -> None:
    assert PairRules(Words([])).redact("password=x") == "password=x"
