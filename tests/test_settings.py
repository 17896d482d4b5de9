"""Settings: what the environment says, and what is said about what it must not say."""

from __future__ import annotations

import dataclasses

import pytest

from asgi_obs.settings import ALWAYS_SENSITIVE, ENVIRONMENTS, LOG_FORMATS, LOG_LEVELS, Settings, SettingsError


@pytest.fixture(autouse=True)
def bare(monkeypatch, tmp_path):
    """An environment without any of the variables, and a directory without `.env`."""
    monkeypatch.chdir(tmp_path)
    for variable in Settings.variables().values():
        monkeypatch.delenv(variable, raising=False)
    return tmp_path


def test_without_any_variable_everything_has_its_default():
    assert dataclasses.asdict(Settings()) == {
        "service_name": "unknown_service",
        "version": "unknown",
        "environment": "development",
        "log_level": "DEBUG",
        "log_format": "json",
        "sensitive_fields": ("password", "token", "secret"),
    }


@pytest.mark.parametrize(
    ("variable", "text", "name", "value"),
    [
        ("SERVICE_NAME", " orders ", "service_name", "orders"),
        ("VERSION", "1.2.3", "version", "1.2.3"),
        ("ENVIRONMENT", "Production", "environment", "production"),
        ("LOG_LEVEL", "trace", "log_level", "TRACE"),
        ("LOG_FORMAT", "TEXT", "log_format", "text"),
        ("SENSITIVE_FIELDS", "pin, ssn ,,", "sensitive_fields", ("pin", "ssn")),
        ("SENSITIVE_FIELDS", "", "sensitive_fields", ()),
    ],
)
def test_a_variable_is_read(monkeypatch, variable, text, name, value):
    monkeypatch.setenv(variable, text)

    assert getattr(Settings(), name) == value


def test_a_variable_is_read_when_the_settings_are_made(monkeypatch):
    monkeypatch.setenv("VERSION", "1")
    first = Settings()
    monkeypatch.setenv("VERSION", "2")

    assert (first.version, Settings().version) == ("1", "2")


def test_a_dotenv_file_is_read_and_the_environment_wins(monkeypatch, bare):
    (bare / ".env").write_text('SERVICE_NAME="orders"\nVERSION=1\n')
    monkeypatch.setenv("VERSION", "2")

    settings = Settings()

    assert (settings.service_name, settings.version) == ("orders", "2")


def test_a_directory_named_dotenv_is_no_file(bare):
    (bare / ".env").mkdir()

    assert Settings().version == "unknown"


def test_what_is_given_by_keyword_wins(monkeypatch):
    monkeypatch.setenv("SERVICE_NAME", "environment")

    assert Settings(service_name="keyword").service_name == "keyword"


def test_a_wrong_variable_does_not_matter_when_the_keyword_is_given(monkeypatch):
    monkeypatch.setenv("LOG_LEVEL", "LOUD")

    assert Settings(log_level="INFO").log_level == "INFO"


@pytest.mark.parametrize(
    ("environment", "level"),
    [("development", "DEBUG"), ("testing", "INFO"), ("staging", "INFO"), ("production", "INFO")],
)
def test_the_default_level_depends_on_the_environment(monkeypatch, environment, level):
    monkeypatch.setenv("ENVIRONMENT", environment)

    assert Settings().log_level == level


@pytest.mark.parametrize(
    ("variable", "text", "message"),
    [
        ("SERVICE_NAME", "  ", "SERVICE_NAME='' is not valid: expected a name"),
        ("ENVIRONMENT", "prod", f"ENVIRONMENT='prod' is not valid: expected one of {', '.join(ENVIRONMENTS)}"),
        ("LOG_LEVEL", "loud", f"LOG_LEVEL='LOUD' is not valid: expected one of {', '.join(LOG_LEVELS)}"),
        ("LOG_FORMAT", "xml", f"LOG_FORMAT='xml' is not valid: expected one of {', '.join(LOG_FORMATS)}"),
    ],
)
def test_a_wrong_variable_is_named_with_its_value_and_what_is_allowed(monkeypatch, variable, text, message):
    monkeypatch.setenv(variable, text)

    with pytest.raises(SettingsError) as caught:
        Settings()

    assert str(caught.value) == message


def test_a_wrong_keyword_is_named_as_its_variable():
    with pytest.raises(SettingsError, match="ENVIRONMENT='moon' is not valid"):
        Settings(environment="moon")


@pytest.mark.parametrize("level", LOG_LEVELS)
def test_every_level_is_accepted(level):
    assert Settings(log_level=level).log_level == level


def test_stack_traces_are_kept_out_of_production_only():
    assert {name: Settings(environment=name).stack_traces for name in ENVIRONMENTS} == {
        "development": True,
        "testing": True,
        "staging": True,
        "production": False,
    }


def test_some_keys_are_sensitive_in_any_case():
    assert Settings(sensitive_fields=("pin",)).sensitive_keys == ("pin", *ALWAYS_SENSITIVE)
    assert "authorization" in Settings(sensitive_fields=()).sensitive_keys


def test_settings_cannot_be_changed():
    settings = Settings()

    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.version = "2"  # type: ignore[misc]


def test_settings_are_equal_when_their_values_are():
    assert Settings() == Settings()
    assert len({Settings(), Settings(), Settings(version="2")}) == 2


def test_settings_print_as_the_environment_they_stand_for():
    assert str(Settings(service_name="orders", version="1")).splitlines() == [
        "SERVICE_NAME=orders",
        "VERSION=1",
        "ENVIRONMENT=development",
        "LOG_LEVEL=DEBUG",
        "LOG_FORMAT=json",
        "SENSITIVE_FIELDS=password,token,secret",
    ]


def test_what_settings_print_can_be_read_back(monkeypatch):
    settings = Settings(service_name="orders", environment="production", sensitive_fields=("pin", "ssn"))
    for line in str(settings).splitlines():
        monkeypatch.setenv(*line.split("=", 1))

    assert Settings() == settings


def test_what_is_given_by_keyword_is_read_as_the_variable_would_be():
    settings = Settings(environment="Production", log_format="TEXT", log_level="warn", sensitive_fields="pin, otp")

    assert (settings.environment, settings.log_format, settings.log_level) == ("production", "text", "WARN")
    assert settings.sensitive_fields == ("pin", "otp")
