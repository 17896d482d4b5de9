from __future__ import annotations

import json
from typing import Any

import pytest
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field, ValidationError

from asgi_obs.redaction import Redactor
from asgi_obs.redaction.keys import Words
from asgi_obs.redaction.validation import ValidationRules

WORDS = ("password", "token")
RULES = ValidationRules(Words(WORDS))
REDACTOR = Redactor(WORDS)


class Login(BaseModel):
    user: str
    password: str = Field(min_length=20)


class Logins(BaseModel):
    first: Login
    rest: list[Login]


LOGIN = {"user": "ann", "password": "hunter2"}


def _error(model: type[BaseModel], data: Any) -> ValidationError:
    with pytest.raises(ValidationError) as caught:
        model.model_validate(data)
    return caught.value


@pytest.mark.parametrize(
    "error",
    [
        _error(Login, LOGIN),
        _error(Login, {"password": "hunter2"}),
        _error(Logins, {"first": LOGIN, "rest": [LOGIN]}),
        _error(Logins, {"first": {"user": "ann", "a": "a" * 30, "password": "hunter2"}, "rest": 5}),
    ],
)
def test_no_input_of_a_sensitive_field_is_in_a_validation_error(error: ValidationError) -> None:
    request = RequestValidationError(error.errors())
    texts = (str(error), error.json(), str(request), str(error.errors()), repr(request.errors()))

    for text in (*texts, *map(repr, texts), *map(json.dumps, texts)):
        assert "hunter2" not in REDACTOR.redact_text(text)
    for value in (error, request, error.errors(), {"errors": error.errors()}):
        assert "hunter2" not in repr(REDACTOR.redact(value))


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        (
            "password\n  Bad [type=a, input_value='x', input_type=str]",
            "password\n  Bad [type=a, input_value=******, input_type=str]",
        ),
        (
            r"a.password\n  Bad [type=a, input_value='x', input_type=str]",
            r"a.password\n  Bad [type=a, input_value=******, input_type=str]",
        ),
        ("password\n  Bad [input_value='abc\nd", "password\n  Bad [input_value=******\nd"),
        ("a\n  Bad [input_value={'b': 'x...y'}, input_type=dict]", "a\n  Bad [input_value=******, input_type=dict]"),
        (
            "{'loc': ('body', 'token'), 'msg': 'no', 'input': 'x', 'ctx': {}}",
            "{'loc': ('body', 'token'), 'msg': 'no', 'input': ******, 'ctx': {}}",
        ),
        ('"loc":["body","token"],"msg":"no","input":12345}', '"loc":["body","token"],"msg":"no","input":******}'),
    ],
)
def test_the_input_is_masked_where_its_field_is_sensitive(text: str, redacted: str) -> None:
    assert RULES.redact(text) == redacted


@pytest.mark.parametrize(
    "text",
    [
        "name\n  Bad [type=a, input_value='x...y', input_type=str]",
        "name\n  Bad [type=a, input_value={'b': 'x'}, input_type=dict]",
        "input_value=5",
        "[{'loc': ('body', 'token'), 'msg': 'no'}, {'loc': ('body', 'a'), 'msg': 'no', 'input': 'ann'}]",
        "no such thing, password",
    ],
)
def test_any_other_input_stays(text: str) -> None:
    assert RULES.redact(text) == text


def test_in_structures_too() -> None:
    errors = [{"loc": ("body", "token"), "input": "x"}, {"loc": ["body", "a", 0], "input": "y"}]

    assert REDACTOR.redact(errors) == [{**errors[0], "input": "******"}, errors[1]]
