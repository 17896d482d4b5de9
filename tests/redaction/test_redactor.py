from __future__ import annotations

import copy
import enum
import re
from collections import OrderedDict, UserDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from asgi_obs import errors
from asgi_obs.errors import ConfigurationError
from asgi_obs.redaction import MASK, Redactor, keys, redact_sensitive_data, redactor_for, redactor_of, structures
from asgi_obs.settings import Settings

REDACTOR = Redactor(["password", "token", "secret", "api_key", "authorization", "cookie"])


class Login(BaseModel):
    user: str
    password: str


@dataclass
class Account:
    name: str
    password: str


class Kind(str, enum.Enum):
    SECRET = "secret"


class Unprintable:
    def __str__(self) -> str:
        raise RuntimeError("no")


class Pair(NamedTuple):
    host: str
    api_key: str


@pytest.mark.parametrize(
    "key",
    ["password", "PASSWORD", "user_password", "X-Auth-Token", "accessToken", "api-key", "ApiKey", "api_key", b"Token"],
)
def test_a_key_that_contains_a_sensitive_word_is_redacted_however_it_is_written(key: Any) -> None:
    assert REDACTOR.redact({key: "hunter2"}) == {key: MASK}


def test_a_key_without_a_sensitive_word_keeps_its_value() -> None:
    data = {"user": "ann", "passport": 1, 5: "five", None: "none", (1, 2): "pair"}
    assert REDACTOR.redact(data) == data


def test_a_key_that_is_no_text_is_judged_by_its_text() -> None:
    unprintable = Unprintable()
    assert REDACTOR.redact({("a", "token"): 1, Kind.SECRET: 2, unprintable: 3, 7: 4}) == {
        ("a", "token"): MASK,
        Kind.SECRET: MASK,
        unprintable: 3,
        7: 4,
    }


def test_keys_are_redacted_at_any_depth() -> None:
    data = {"a": [{"b": ({"token": 1},)}, [[{"secret": {"x": 1}}]]], "n": None}
    assert REDACTOR.redact(data) == {"a": [{"b": ({"token": MASK},)}, [[{"secret": MASK}]]], "n": None}


def test_the_original_is_never_changed() -> None:
    data = {"a": [{"password": "x"}], "b": {"c": {"token": "y"}}}
    before = copy.deepcopy(data)
    REDACTOR.redact(data)
    assert data == before


def test_containers_keep_their_type() -> None:
    data = {"list": [1], "tuple": (1,), "set": {1}, "frozen": frozenset({1})}
    assert REDACTOR.redact(data) == data
    assert [type(item) for item in REDACTOR.redact(data).values()] == [list, tuple, set, frozenset]


def test_other_mappings_become_dictionaries() -> None:
    for mapping in (OrderedDict(token=1, a=2), UserDict(token=1, a=2)):
        assert REDACTOR.redact({"m": mapping}) == {"m": {"token": MASK, "a": 2}}


def test_dataclasses_models_and_named_tuples_become_redacted_dictionaries() -> None:
    assert REDACTOR.redact([Account("ann", "x"), Login(user="ann", password="x"), Pair("h", "x")]) == [
        {"name": "ann", "password": MASK},
        {"user": "ann", "password": MASK},
        {"host": "h", "api_key": MASK},
    ]


def test_a_class_is_not_taken_for_its_instances() -> None:
    assert REDACTOR.redact([Account, Login]) == [Account, Login]


def test_a_set_of_what_becomes_dictionaries_becomes_a_list() -> None:
    class Frozen(BaseModel):
        model_config = {"frozen": True}
        token: str

    assert REDACTOR.redact({Frozen(token="x")}) == [{"token": MASK}]


def test_a_subclass_of_a_set_becomes_a_set() -> None:
    class Names(set):  # type: ignore[type-arg]
        pass

    assert type(REDACTOR.redact(Names({"a"}))) is set


def test_a_pair_with_a_sensitive_name_is_redacted_like_a_header() -> None:
    headers = [(b"authorization", b"Bearer x"), (b"accept", b"*/*")]
    assert REDACTOR.redact({"headers": headers}) == {"headers": [(b"authorization", MASK), (b"accept", b"*/*")]}
    assert REDACTOR.redact([["Cookie", "a=1"], ["Accept", "x"]]) == [["Cookie", MASK], ["Accept", "x"]]
    assert REDACTOR.redact(("token", 5)) == ("token", MASK)


def test_a_list_of_two_words_is_no_pair() -> None:
    assert REDACTOR.redact({"tags": ["token", "other"]}) == {"tags": ["token", "other"]}


def test_a_cycle_ends() -> None:
    data: dict[str, Any] = {"token": 1}
    data["self"] = data
    data["list"] = [data]
    assert REDACTOR.redact(data) == {"token": MASK, "self": structures.CIRCULAR, "list": [structures.CIRCULAR]}


def test_one_object_in_two_places_is_no_cycle() -> None:
    shared = {"a": 1}
    assert REDACTOR.redact([shared, shared]) == [{"a": 1}, {"a": 1}]


def test_what_is_too_deep_to_look_into_does_not_leave() -> None:
    data: Any = {"password": "hunter2"}
    for _ in range(5_000):
        data = [data]
    text = repr(REDACTOR.redact(data))
    assert "hunter2" not in text
    assert structures.TOO_DEEP in text


def test_what_is_moderately_deep_is_copied_whole() -> None:
    data: Any = {"password": "hunter2"}
    for _ in range(60):
        data = [data]
    assert repr(REDACTOR.redact(data)) == "[" * 60 + repr({"password": MASK}) + "]" * 60


def test_a_small_object_that_unfolds_without_end_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(structures, "MAX_CONTAINERS", 1000)
    data: list[Any] = []
    for _ in range(40):
        data = [data, data]
    assert structures.TOO_LARGE in repr(REDACTOR.redact(data))


def test_an_object_that_cannot_be_read_does_not_cost_the_rest() -> None:
    class Broken(BaseModel):
        def model_dump(self, **_options: Any) -> Any:
            raise RuntimeError("no")

    assert REDACTOR.redact({"a": Broken(), "b": 1}) == {"a": "<unreadable Broken>", "b": 1}


def test_an_object_that_answers_to_every_name_is_left_alone() -> None:
    class Answering:
        def __getattr__(self, name: str) -> Any:
            return dict

    value = Answering()
    assert callable(value.model_dump)
    assert REDACTOR.redact(value) is value


def test_an_object_that_breaks_the_walk_itself_is_masked() -> None:
    class Hostile:
        @property
        def __class__(self) -> Any:
            raise RuntimeError("no")

    assert REDACTOR.redact(Hostile()) == MASK


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        ("postgres://ann:pw@db/x", "postgres://******@db/x"),
        ("redis://:pw@cache", "redis://******@cache"),
        ("amqp://ann:p@ss@queue/", "amqp://******@queue/"),
        ("postgres://ann:p/w#x@db/x", "postgres://******@db/x"),
        ("https://h/?a=1&token=x&b=2", "https://h/?a=1&token=******&b=2"),
        ("https://h/cb#access_token=x", "https://h/cb#access_token=******"),
        (
            "GET https://h/?secret=x failed, see http://a:b@c",
            "GET https://h/?secret=****** failed, see http://******@c",
        ),
        ("https://proxy/http://ann:pw@h", "https://proxy/http://******@h"),
        ("http://h:8080/@ann", "http://h:8080/@ann"),
        ("http://[::1]:80/@ann", "http://[::1]:80/@ann"),
        ("http://h/x?y=1#z", "http://h/x?y=1#z"),
        ("ann@example.com?token=x", "ann@example.com?token=******"),
    ],
)
def test_urls_in_texts_lose_userinfo_and_sensitive_parameters(text: str, redacted: str) -> None:
    assert REDACTOR.redact_text(text) == redacted
    assert REDACTOR.redact({"a": [text, text.encode()]}) == {"a": [redacted, redacted.encode()]}


def test_bytes_without_a_url_are_unchanged() -> None:
    assert REDACTOR.redact([b"\xff", bytearray(b"x")]) == [b"\xff", bytearray(b"x")]


@pytest.mark.parametrize(
    ("query", "redacted"),
    [
        ("", ""),
        ("a=1&b=%20+2", "a=1&b=%20+2"),
        ("a=1&token=x", "a=1&token=******"),
        ("token", "token"),
        ("token=", "token=******"),
        ("TOKEN=x&Api-Key=y", "TOKEN=******&Api-Key=******"),
        ("%74oken=x&b=%2F", "%74oken=******&b=%2F"),
        ("user[password]=x", "user[password]=******"),
        ("a=1;secret=x;y&b=2", "a=1;secret=******&b=2"),
        ("a=1=2&&token=x=y&", "a=1=2&&token=******&"),
        ("next=https://ann:pw@h/&a=1", "next=https://******@h/&a=1"),
        ("next=https://h/?token=x&a=1", "next=https://h/?token=******&a=1"),
        ("q=my+token", "q=my+token"),
    ],
)
def test_only_the_values_of_sensitive_parameters_change(query: str, redacted: str) -> None:
    assert REDACTOR.redact_query(query) == redacted


def test_a_field_that_holds_a_query_string_is_redacted_as_one() -> None:
    assert REDACTOR.redact({"query": "a=1&token=x"}) == {"query": "a=1&token=******"}
    assert REDACTOR.redact_field("query_string", "a=1&token=x") == "a=1&token=******"


def test_a_single_field_is_redacted_by_its_key_or_its_value() -> None:
    assert REDACTOR.redact_field("token", [1]) == MASK
    assert REDACTOR.redact_field("url", "http://a:b@c") == "http://******@c"
    assert REDACTOR.redact_field("n", 5) == 5
    assert REDACTOR.redact_field("user", "ann") == "ann"
    assert REDACTOR.redact_field("data", {"token": 1}) == {"token": MASK}


def test_sensitive_headers_lose_their_value() -> None:
    headers = [(b"Authorization", b"Bearer x"), (b"set-cookie", b"a=1"), (b"accept", b"*/*")]
    assert REDACTOR.redact_headers(headers) == [
        (b"Authorization", b"******"),
        (b"set-cookie", b"******"),
        (b"accept", b"*/*"),
    ]


def test_the_guides_example_is_redacted_by_its_default_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SENSITIVE_FIELDS", raising=False)
    assert redact_sensitive_data({"username": "ann", "password": "x", "user": {"api_token": "y"}}) == {
        "username": "ann",
        "password": MASK,
        "user": {"api_token": MASK},
    }


def test_the_words_come_from_the_environment_at_the_time_of_the_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SENSITIVE_FIELDS", "iban")
    assert redact_sensitive_data({"iban": 1, "password": 2}) == {"iban": MASK, "password": 2}
    assert redact_sensitive_data({"Authorization": "Bearer x", "Set-Cookie": "a"}) == {
        "Authorization": MASK,
        "Set-Cookie": MASK,
    }


def test_a_wrong_setting_elsewhere_does_not_stop_redaction(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOG_LEVEL", "LOUD")
    assert redact_sensitive_data({"password": 1}) == {"password": MASK}


def test_an_env_file_that_cannot_be_read_does_not_stop_redaction(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / ".env").write_bytes(b"SENSITIVE_FIELDS=\xff\xfe")
    monkeypatch.delenv("SENSITIVE_FIELDS", raising=False)
    monkeypatch.chdir(tmp_path)
    assert redact_sensitive_data({"password": 1, "cookie": 2, "a": 3}) == {"password": MASK, "cookie": MASK, "a": 3}


def test_given_words_replace_the_default_ones() -> None:
    assert redact_sensitive_data({"iban": 1, "password": 2}, ["iban"]) == {"iban": MASK, "password": 2}
    assert redact_sensitive_data({"iban": 1, "an": 2}, "iban") == {"iban": MASK, "an": 2}
    assert redact_sensitive_data({"iban": 1, "pan": 2, "an": 3}, "iban, pan") == {"iban": MASK, "pan": MASK, "an": 3}


def test_no_words_and_empty_words_redact_nothing() -> None:
    assert redact_sensitive_data({"password": 1}, []) == {"password": 1}
    assert redact_sensitive_data({"password": 1}, ["", "-"]) == {"password": 1}


@pytest.mark.parametrize("data", [None, "", 0, [], {}, "text", 5])
def test_what_has_no_keys_is_returned_as_it_is(data: Any) -> None:
    assert redact_sensitive_data(data) == data


def test_a_redactor_is_shared_by_all_who_use_the_same_words() -> None:
    assert redactor_of(["x", "y"]) is redactor_of(("x", "y"))


def test_keys_of_clients_do_not_pile_up() -> None:
    redactor = Redactor(["token"])
    for number in range(3 * keys.MAX_VERDICTS):
        redactor.is_sensitive(f"key-{number}")
        redactor.is_sensitive(f"key-{number}" * keys.MAX_KEPT_KEY)
    assert len(redactor.verdicts) <= keys.MAX_VERDICTS
    assert max(map(len, redactor.verdicts)) <= keys.MAX_KEPT_KEY
    assert redactor.is_sensitive("token")


@given(st.text(), st.text(alphabet="ab=&;%?#/:@ token://"))
def test_no_text_breaks_redaction(text: str, crafted: str) -> None:
    for candidate in (text, crafted, f"http://{text}", f"http://ann:{crafted}@h?token={text}"):
        REDACTOR.redact_text(candidate)
        REDACTOR.redact_query(candidate)


@given(st.text(alphabet=st.characters(exclude_characters='&;= \t\n"<>', exclude_categories=["Z", "C"]), min_size=1))
def test_no_secret_survives_in_a_query(secret: str) -> None:
    secret = f"S3C{secret}R3T"
    assert secret not in REDACTOR.redact_query(f"a=1&token={secret}&b=2")


@given(
    st.recursive(
        st.none() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["a", "b", "token", "Password"]), inner),
    )
)
def test_no_value_under_a_sensitive_key_survives(data: Any) -> None:
    text = repr(REDACTOR.redact(data))
    assert not re.search(r"'(?:token|Password)': (?!'\*{6}')", text)


def test_the_redactor_of_settings_has_their_words_patterns_and_rule() -> None:
    settings = Settings(
        sensitive_fields=("iban",), sensitive_patterns=(r"C-\d+",), redact=lambda text: text.replace("ann", "?")
    )
    redactor = redactor_for(settings)

    assert redactor is redactor_for(settings)
    assert redactor.redact({"iban": 1, "password": 2, "a": "C-17 of ann"}) == {
        "iban": MASK,
        "password": 2,
        "a": f"{MASK} of ?",
    }


def test_the_patterns_of_the_environment_are_for_all_who_have_no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SENSITIVE_PATTERNS", "x+ y+")
    assert redactor_of().redact_text("axxb yy") == f"a{MASK}b {MASK}"
    assert redact_sensitive_data(["axxb"]) == [f"a{MASK}b"]


def test_redacted_data_is_a_copy_whatever_is_in_it() -> None:
    data = {"a": [1, {"b": 2}]}
    copy = redact_sensitive_data(data)
    copy["a"][1]["b"] = 3
    assert data == {"a": [1, {"b": 2}]}


@pytest.mark.parametrize(
    ("options", "option"),
    [
        ({"patterns": ["("]}, "patterns"),
        ({"patterns": [5]}, "patterns"),
        ({"patterns": ["x*"]}, "patterns"),
        ({"rule": 5}, "rule"),
    ],
)
def test_wrong_options_are_said_at_once(options: Any, option: str) -> None:
    with pytest.raises(ConfigurationError, match=option):
        Redactor([], **options)


@pytest.fixture
def reported(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    reported: list[str] = []
    monkeypatch.setattr(errors, "_listeners", [reported.append])
    return reported


def test_what_is_no_text_is_masked_and_reported(reported: list[str]) -> None:
    broken: Any = [5]

    assert REDACTOR.redact_text(broken) == MASK
    assert REDACTOR.redact_query(broken) == MASK
    assert reported == ["Redactor.redact_text", "Redactor.redact_query"]


def test_other_headers_are_redacted_as_texts() -> None:
    headers = [(b"referer", b"https://h/?token=x"), (b"x-note", b"caf\xe9")]
    assert REDACTOR.redact_headers(headers) == [(b"referer", b"https://h/?token=******"), (b"x-note", b"caf\xe9")]


def test_counts_under_sensitive_keys_stay() -> None:
    assert REDACTOR.redact_field("max_tokens", 512) == 512
    assert REDACTOR.redact_field("max_tokens", "512") == MASK
    assert REDACTOR.redact({"usage": {"total_tokens": 7, "token": 7}}) == {"usage": {"total_tokens": 7, "token": MASK}}


def test_the_number_of_a_card_is_redacted_as_a_number_too() -> None:
    assert REDACTOR.redact_field("n", 4111111111111111) == MASK
    assert REDACTOR.redact({"n": [4111111111111111, 4111111111111112]}) == {"n": [MASK, 4111111111111112]}


def test_the_fields_of_a_line_are_redacted_in_place() -> None:
    fields: dict[str, Any] = {
        "a": "ann",
        "n": 5,
        "none": None,
        "card": 4111111111111111,
        "password": 1,
        "url": "http://u:p@h",
        "query": "token=x",
        "data": {"token": 1},
        "id": "a-1",
        "note": "a clean text, too long",
    }
    for name in fields:
        REDACTOR.is_sensitive(name)
    REDACTOR.redact_text(fields["note"])
    REDACTOR.redact_text("token")
    fields["query_string"] = "token"
    REDACTOR.is_sensitive("query_string")

    assert REDACTOR.redact_fields(fields) is fields
    assert fields == {
        "a": "ann",
        "n": 5,
        "none": None,
        "card": MASK,
        "password": MASK,
        "url": f"http://{MASK}@h",
        "query": f"token={MASK}",
        "data": {"token": MASK},
        "id": "a-1",
        "note": "a clean text, too long",
        "query_string": "token",
    }


def test_a_message_is_judged_by_its_template_if_only_digits_were_put_in() -> None:
    message = "order 7 stored"
    assert REDACTOR.redact_message(message, "order %s stored", (7,)) is message


@pytest.mark.parametrize(
    ("template", "arguments"),
    [
        ("token=%s", (5,)),
        ("it is %s", ("token=x",)),
        ("it is %s", ({"token": 5},)),
        ("it is %s", (4111111111111111,)),
        ("%s", None),
        (5, ()),
    ],
)
def test_any_other_message_is_looked_at(template: Any, arguments: Any) -> None:
    message = str(template) % arguments if arguments else "token=x"
    assert MASK in REDACTOR.redact_message(message, template, arguments)


def test_a_message_is_always_looked_at_where_there_are_patterns() -> None:
    assert Redactor([], patterns=["7"]).redact_message("order 7", "order %s", (7,)) == f"order {MASK}"


def test_data_that_changes_while_it_is_looked_at_is_copied() -> None:
    data: dict[str, object] = {"a": "one", "b": "two"}

    def change(text: str) -> str:
        data.setdefault("c", 3)
        return text

    redactor = redactor_for(Settings(redact=change))
    assert redactor.redact(data) == {"a": "one", "b": "two", "c": 3}
