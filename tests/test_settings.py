"""Settings: what the environment says, and what is said about what it must not say."""

from __future__ import annotations

import dataclasses

import pytest

from asgi_obs.errors import ConfigurationError, SettingsError
from asgi_obs.settings import (
    ALWAYS_SENSITIVE,
    ENDPOINTS,
    ENVIRONMENTS,
    KNOWN_METHODS,
    LOG_FORMATS,
    LOG_LEVELS,
    Settings,
)

CAPTURE = "OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS"


@pytest.fixture(autouse=True)
def bare(monkeypatch, tmp_path):
    """An environment without any of the variables, and a directory without `.env`."""
    monkeypatch.chdir(tmp_path)
    for variable in Settings.variables().values():
        monkeypatch.delenv(variable, raising=False)
    return tmp_path


def test_without_any_variable_everything_has_its_default():
    assert dataclasses.asdict(Settings()) == {
        "build": "",
        "ops_token": "",
        "ops_username": "",
        "ops_password": "",
        "ops_allowed_networks": (),
        "ops_endpoints": ENDPOINTS,
        "ops_prefix": "",
        "ops_port": 0,
        "ops_host": "127.0.0.1",
        "probe_aliases": False,
        "drain_seconds": 0.0,
        "stall_seconds": 1.0,
        "service_name": "unknown_service",
        "version": "unknown",
        "environment": "development",
        "log_level": "DEBUG",
        "log_levels": (),
        "log_format": "json",
        "log_profile": "default",
        "log_output": "stdout",
        "log_file_path": "",
        "log_file_mode": 0o640,
        "log_retention_days": 30,
        "log_queue_size": 0,
        "log_sample_rates": (("*", 1.0),),
        "log_slow_seconds": 1.0,
        "log_buffer_lines": 0,
        "log_fold_seconds": 0.0,
        "audit_log_path": "",
        "sensitive_fields": ("password", "token", "secret"),
        "sensitive_patterns": (),
        "redact": None,
        "google_cloud_project": "",
        "metrics_unmatched": "group",
        "otlp_endpoint": "localhost:4317",
        "otlp_insecure": True,
        "trust_incoming": True,
        "trace_response_header": "none",
        "excluded_urls": (),
        "semconv_opt_in": (),
        "known_methods": KNOWN_METHODS,
        "capture_request_headers": (),
        "capture_response_headers": (),
        "sanitize_headers": (),
    }


@pytest.mark.parametrize(
    ("variable", "text", "name", "value"),
    [
        ("SERVICE_NAME", " orders ", "service_name", "orders"),
        ("VERSION", "1.2.3", "version", "1.2.3"),
        ("ENVIRONMENT", "Production", "environment", "production"),
        ("LOG_LEVEL", "trace", "log_level", "TRACE"),
        ("LOG_FORMAT", "TEXT", "log_format", "text"),
        ("METRICS_UNMATCHED", "Path", "metrics_unmatched", "path"),
        ("SENSITIVE_FIELDS", "pin, ssn ,,", "sensitive_fields", ("pin", "ssn")),
        ("SENSITIVE_FIELDS", "", "sensitive_fields", ()),
        ("SENSITIVE_PATTERNS", r"\bAB-\d+ [xy]z", "sensitive_patterns", (r"\bAB-\d+", "[xy]z")),
        (
            "LOG_LEVELS",
            "sqlalchemy.engine=warn, httpx = INFO,",
            "log_levels",
            (("sqlalchemy.engine", "WARN"), ("httpx", "INFO")),
        ),
        ("LOG_PROFILE", "ECS", "log_profile", "ecs"),
        ("LOG_FILE_MODE", "600", "log_file_mode", 0o600),
        ("LOG_RETENTION_DAYS", "7", "log_retention_days", 7),
        ("LOG_QUEUE_SIZE", "10000", "log_queue_size", 10_000),
        ("LOG_SAMPLE_RATE", "0.1", "log_sample_rates", (("*", 0.1),)),
        (
            "LOG_SAMPLE_RATE",
            "/items/{item_id}=0.01,*=0.5",
            "log_sample_rates",
            (("/items/{item_id}", 0.01), ("*", 0.5)),
        ),
        ("LOG_SLOW_SECONDS", "0.25", "log_slow_seconds", 0.25),
        ("LOG_BUFFER_LINES", "200", "log_buffer_lines", 200),
        ("LOG_FOLD_SECONDS", "5", "log_fold_seconds", 5.0),
        ("AUDIT_LOG_PATH", "audit.log", "audit_log_path", "audit.log"),
        ("OTLP_ENDPOINT", "https://collector:4318", "otlp_endpoint", "https://collector:4318"),
        ("OTLP_INSECURE", "False", "otlp_insecure", False),
        ("OTLP_INSECURE", "TRUE", "otlp_insecure", True),
        ("TRUST_INCOMING", "False", "trust_incoming", False),
        ("TRUST_INCOMING", "true", "trust_incoming", True),
        ("TRUST_INCOMING", "10.0.0.0/8, fd00::/8,192.0.2.7", "trust_incoming", ("10.0.0.0/8", "fd00::/8", "192.0.2.7")),
        ("TRUST_INCOMING", "10.1.2.3/8", "trust_incoming", ("10.1.2.3/8",)),
        ("TRACE_RESPONSE_HEADER", "Server-Timing", "trace_response_header", "server-timing"),
        ("OTEL_PYTHON_EXCLUDED_URLS", "/health$, ^http://internal", "excluded_urls", ("/health$", "^http://internal")),
        ("OTEL_SEMCONV_STABILITY_OPT_IN", "http/dup, database", "semconv_opt_in", ("http/dup", "database")),
        ("OTEL_INSTRUMENTATION_HTTP_KNOWN_METHODS", "GET, BREW", "known_methods", ("GET", "BREW")),
        (f"{CAPTURE}_SERVER_REQUEST", "accept.*,x-tenant", "capture_request_headers", ("accept.*", "x-tenant")),
        (f"{CAPTURE}_SERVER_RESPONSE", ".*", "capture_response_headers", (".*",)),
        (f"{CAPTURE}_SANITIZE_FIELDS", "x-.*", "sanitize_headers", ("x-.*",)),
        ("BUILD", "4f1c9e", "build", "4f1c9e"),
        ("OPS_TOKEN", "t0p", "ops_token", "t0p"),
        ("OPS_ALLOWED_NETWORKS", "10.0.0.0/8, ::1", "ops_allowed_networks", ("10.0.0.0/8", "::1")),
        ("OPS_ENDPOINTS", "metrics,live", "ops_endpoints", ("metrics", "live")),
        ("OPS_PREFIX", "/internal/ops", "ops_prefix", "/internal/ops"),
        ("OPS_PORT", "9000", "ops_port", 9000),
        ("OPS_HOST", "0.0.0.0", "ops_host", "0.0.0.0"),
        ("OPS_PROBE_ALIASES", "true", "probe_aliases", True),
        ("DRAIN_SECONDS", "7.5", "drain_seconds", 7.5),
        ("STALL_SECONDS", "0", "stall_seconds", 0.0),
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
        ("ENVIRONMENT", "prod", f"ENVIRONMENT='prod' is not valid: expected one of {', '.join(ENVIRONMENTS)}"),
        ("LOG_LEVEL", "loud", f"LOG_LEVEL='LOUD' is not valid: expected one of {', '.join(LOG_LEVELS)}"),
        ("LOG_FORMAT", "xml", f"LOG_FORMAT='xml' is not valid: expected one of {', '.join(LOG_FORMATS)}"),
        (
            f"{CAPTURE}_SERVER_REQUEST",
            "accept,(?i)x-a",
            f"{CAPTURE}_SERVER_REQUEST='accept,(?i)x-a' is not valid: "
            "expected regular expressions, separated by commas, without flags",
        ),
        ("LOG_PROFILE", "elk", "LOG_PROFILE='elk' is not valid: expected one of default, ecs, otel, gcp"),
        ("LOG_OUTPUT", "stderr", "LOG_OUTPUT='stderr' is not valid: expected one of stdout, file"),
        ("LOG_OUTPUT", "file", "LOG_FILE_PATH='' is not valid: expected a path to a file"),
        (
            "LOG_FILE_MODE",
            "rw-r",
            "LOG_FILE_MODE='rw-r' is not valid: expected permissions in octal, from 0200 to 0777",
        ),
        (
            "LOG_FILE_MODE",
            "0001",
            "LOG_FILE_MODE='0001' is not valid: expected permissions in octal, from 0200 to 0777",
        ),
        ("LOG_RETENTION_DAYS", "0", "LOG_RETENTION_DAYS=0 is not valid: expected a whole number from 1 to 36500"),
        ("LOG_QUEUE_SIZE", "-1", "LOG_QUEUE_SIZE=-1 is not valid: expected a whole number from 0 to 1000000"),
        ("LOG_QUEUE_SIZE", "many", "LOG_QUEUE_SIZE='many' is not valid: expected a whole number from 0 to 1000000"),
        ("LOG_FOLD_SECONDS", "nan", "LOG_FOLD_SECONDS=nan is not valid: expected a number of seconds from 0 to 86400"),
        ("LOG_SLOW_SECONDS", "inf", "LOG_SLOW_SECONDS=inf is not valid: expected a number of seconds from 0 to 86400"),
        ("OTLP_INSECURE", "yes", "OTLP_INSECURE='yes' is not valid: expected true or false"),
        (
            "TRUST_INCOMING",
            "gateway",
            "TRUST_INCOMING='gateway' is not valid: expected true, false, or networks such as 10.0.0.0/8, separated by"
            " commas",
        ),
        (
            "TRACE_RESPONSE_HEADER",
            "x-trace",
            "TRACE_RESPONSE_HEADER='x-trace' is not valid: expected one of none, server-timing, traceresponse",
        ),
        (
            "OTEL_PYTHON_EXCLUDED_URLS",
            "fine, (open",
            "OTEL_PYTHON_EXCLUDED_URLS='fine,(open' is not valid: expected regular expressions, separated by commas",
        ),
        (
            "OPS_TOKEN",
            "ops\ntoken",
            "OPS_TOKEN='***' is not valid: expected printable ASCII without white space at its ends",
        ),
        ("OPS_USERNAME", "ops", "OPS_USERNAME='ops' is not valid: expected a name with OPS_PASSWORD set"),
        ("OPS_PASSWORD", "s3cret", "OPS_PASSWORD='***' is not valid: expected nothing without OPS_USERNAME"),
        (
            "OPS_ALLOWED_NETWORKS",
            "10.0.0.0/8,office",
            "OPS_ALLOWED_NETWORKS='10.0.0.0/8,office' is not valid: "
            "expected networks such as 10.0.0.0/8, separated by commas",
        ),
        (
            "OPS_ENDPOINTS",
            "metrics,shell",
            "OPS_ENDPOINTS='metrics,shell' is not valid: "
            "expected some of metrics, health, ready, live, info, loggers, tasks, separated by commas",
        ),
        (
            "OPS_PREFIX",
            "internal/",
            "OPS_PREFIX='internal/' is not valid: "
            "expected the beginning of a path such as /internal, with no slash at its end, or nothing",
        ),
        ("OPS_PORT", "70000", "OPS_PORT=70000 is not valid: expected a port from 1 to 65535, or 0 for none"),
        ("OPS_PORT", "http", "OPS_PORT='http' is not valid: expected a port from 1 to 65535, or 0 for none"),
        ("OPS_PROBE_ALIASES", "on", "OPS_PROBE_ALIASES='on' is not valid: expected true or false"),
        ("DRAIN_SECONDS", "-1", "DRAIN_SECONDS=-1.0 is not valid: expected a number of seconds from 0 to 3600"),
        ("STALL_SECONDS", "nan", "STALL_SECONDS=nan is not valid: expected a number of seconds from 0 to 3600"),
    ],
)
def test_a_wrong_variable_is_named_with_its_value_and_what_is_allowed(monkeypatch, variable, text, message):
    monkeypatch.setenv(variable, text)

    with pytest.raises(SettingsError) as caught:
        Settings()

    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("LOG_LEVELS", "httpx"),
        ("LOG_LEVELS", "=INFO"),
        ("LOG_LEVELS", "httpx=LOUD"),
        ("LOG_SAMPLE_RATE", "1.5"),
        ("LOG_SAMPLE_RATE", "half"),
        ("LOG_SAMPLE_RATE", "/items=0.1,0.5"),
        ("SENSITIVE_PATTERNS", "fine (open"),
        ("SENSITIVE_PATTERNS", "fine x*"),
        ("TRUST_INCOMING", "true,10.0.0.0/8"),
        ("TRUST_INCOMING", "10.0.0.0/33"),
        ("TRUST_INCOMING", "*"),
        (f"{CAPTURE}_SERVER_REQUEST", "*"),
        (f"{CAPTURE}_SERVER_RESPONSE", "accept,["),
        (f"{CAPTURE}_SANITIZE_FIELDS", "(?P<"),
    ],
)
def test_a_wrong_list_is_refused(monkeypatch, variable, text):
    monkeypatch.setenv(variable, text)

    with pytest.raises(SettingsError, match=f"^{variable}=.* is not valid: expected .*"):
        Settings()


def test_a_list_may_be_given_as_the_text_of_its_variable():
    given = Settings(log_levels="httpx=info", log_sample_rates="0.5", sensitive_patterns="a b", sensitive_fields="pin")

    assert given == Settings(
        log_levels=(("httpx", "INFO"),),
        log_sample_rates=(("*", 0.5),),
        sensitive_patterns=("a", "b"),
        sensitive_fields=("pin",),
    )


def test_a_list_may_be_given_as_a_list():
    settings = Settings(sensitive_fields=["pin"], sensitive_patterns=[r"C-\d+"], log_levels=[("httpx", "INFO")])

    assert hash(settings) == hash(
        Settings(sensitive_fields=("pin",), sensitive_patterns=(r"C-\d+",), log_levels=(("httpx", "INFO"),))
    )


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("sensitive_fields", (1,), "SENSITIVE_FIELDS='1' is not valid: expected words"),
        ("sensitive_patterns", (1,), "SENSITIVE_PATTERNS='1' is not valid: expected regular expressions"),
        ("redact", "x", "redact='x' is not valid: expected a function"),
        ("redact", type("Rule", (), {"__call__": len, "__hash__": None})(), "redact=.* is not valid: expected a fun"),
    ],
)
def test_something_else_than_words_patterns_and_functions_is_refused(option, value, message):
    with pytest.raises(ConfigurationError, match=message):
        Settings(**{option: value})


def test_a_wrong_text_given_for_a_list_is_refused():
    with pytest.raises(SettingsError, match="LOG_LEVELS='httpx' is not valid: expected logger=LEVEL"):
        Settings(log_levels="httpx")


@pytest.mark.parametrize("value", ["yes", "", 1, None])
def test_a_flag_is_true_or_false(value):
    with pytest.raises(SettingsError, match=r"OTLP_INSECURE=.* is not valid: expected true or false"):
        Settings(otlp_insecure=value)


def test_flags_and_networks_may_be_given_as_text_or_as_what_they_are():
    given = Settings(otlp_insecure="False", trust_incoming="false", excluded_urls="/a, /b", sanitize_headers="x-.*")

    assert given == Settings(
        otlp_insecure=False, trust_incoming=False, excluded_urls=["/a", "/b"], sanitize_headers=("x-.*",)
    )
    assert Settings(trust_incoming="10.0.0.0/8") == Settings(trust_incoming=["10.0.0.0/8"])


@pytest.mark.parametrize(
    "name", ["excluded_urls", "capture_request_headers", "capture_response_headers", "sanitize_headers"]
)
@pytest.mark.parametrize("value", ["(", ["fine", "("], (1,)])
def test_what_is_no_regular_expression_is_refused(name, value):
    with pytest.raises(
        SettingsError, match=rf"{Settings.variables()[name]}=.* expected regular expressions, separated"
    ):
        Settings(**{name: value})


@pytest.mark.parametrize("value", ["5", True, 2.5, None])
def test_a_number_of_the_wrong_type_is_refused(value):
    with pytest.raises(SettingsError, match=r"LOG_QUEUE_SIZE=.* is not valid: expected a whole number from 0"):
        Settings(log_queue_size=value)


def test_what_is_wrong_is_shown_as_it_would_be_written():
    for options, message in (
        ({"log_levels": (("a", "LOUD"),)}, "LOG_LEVELS='a=LOUD' is not valid"),
        ({"log_sample_rates": (("*", 2),)}, "LOG_SAMPLE_RATE='*=2' is not valid"),
        ({"sensitive_patterns": ("(",)}, "SENSITIVE_PATTERNS='(' is not valid"),
        ({"log_file_mode": "x"}, "LOG_FILE_MODE='x' is not valid"),
    ):
        with pytest.raises(SettingsError) as caught:
            Settings(**options)
        assert str(caught.value).startswith(message)


def test_the_audit_log_needs_a_file_of_its_own(bare):
    with pytest.raises(SettingsError, match=r"AUDIT_LOG_PATH='app.log' is not valid: expected another file"):
        Settings(log_output="file", log_file_path=str(bare / "app.log"), audit_log_path="app.log")
    assert Settings(log_file_path="app.log", audit_log_path="app.log").audit_log_path == "app.log"


@pytest.mark.parametrize("variable", [v for v in Settings.variables().values() if v != "SENSITIVE_FIELDS"])
def test_a_variable_that_is_empty_has_its_default(monkeypatch, variable):
    monkeypatch.setenv(variable, " ")

    with_it = Settings()
    monkeypatch.delenv(variable)

    assert with_it == Settings()


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("VERSION=1", "1"),
        ("VERSION = 1 ", "1"),
        ("export VERSION=1", "1"),
        ("VERSION=1.2    # of the service", "1.2"),
        ("VERSION=1#2", "1#2"),
        ("VERSION='1 # 2' # of the service", "1 # 2"),
        ('VERSION="1"', "1"),
        ("VERSION='1", "'1"),
        ("VERSION=  # of the service", "unknown"),
        ("# VERSION=1", "unknown"),
        ("VERSION", "unknown"),
    ],
)
def test_a_dotenv_file_is_read_as_people_write_it(bare, line, value):
    (bare / ".env").write_text(f"\ufeff{line}\n", encoding="utf-8")

    assert Settings().version == value


def test_a_dotenv_file_that_is_no_text_is_refused(bare):
    (bare / ".env").write_bytes(b"VERSION=\xff\n")

    with pytest.raises(SettingsError, match=r"\.env=.* is not valid: expected a text in UTF-8"):
        Settings()


def test_one_variable_can_be_read_whatever_is_wrong_with_the_others(monkeypatch):
    monkeypatch.setenv("LOG_LEVEL", "LOUD")
    monkeypatch.setenv("SENSITIVE_FIELDS", "pin")

    assert Settings.read("sensitive_fields") == ("pin",)


def test_a_service_without_a_name_is_refused():
    with pytest.raises(SettingsError, match="SERVICE_NAME='' is not valid: expected a name"):
        Settings(service_name="")


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
    settings = Settings(
        service_name="orders",
        version="1",
        log_levels="httpx=INFO",
        ops_token="t0p",
        ops_allowed_networks="10.0.0.0/8, fd00::/8",
    )

    assert str(settings).splitlines() == [
        "BUILD=",
        "OPS_TOKEN=***",
        "OPS_USERNAME=",
        "OPS_PASSWORD=",
        "OPS_ALLOWED_NETWORKS=10.0.0.0/8,fd00::/8",
        "OPS_ENDPOINTS=metrics,health,ready,live,info,loggers,tasks",
        "OPS_PREFIX=",
        "OPS_PORT=0",
        "OPS_HOST=127.0.0.1",
        "OPS_PROBE_ALIASES=false",
        "DRAIN_SECONDS=0.0",
        "STALL_SECONDS=1.0",
        "SERVICE_NAME=orders",
        "VERSION=1",
        "ENVIRONMENT=development",
        "LOG_LEVEL=DEBUG",
        "LOG_LEVELS=httpx=INFO",
        "LOG_FORMAT=json",
        "LOG_PROFILE=default",
        "LOG_OUTPUT=stdout",
        "LOG_FILE_PATH=",
        "LOG_FILE_MODE=0640",
        "LOG_RETENTION_DAYS=30",
        "LOG_QUEUE_SIZE=0",
        "LOG_SAMPLE_RATE=*=1.0",
        "LOG_SLOW_SECONDS=1.0",
        "LOG_BUFFER_LINES=0",
        "LOG_FOLD_SECONDS=0.0",
        "AUDIT_LOG_PATH=",
        "SENSITIVE_FIELDS=password,token,secret",
        "SENSITIVE_PATTERNS=",
        "GOOGLE_CLOUD_PROJECT=",
        "METRICS_UNMATCHED=group",
        "OTLP_ENDPOINT=localhost:4317",
        "OTLP_INSECURE=true",
        "TRUST_INCOMING=true",
        "TRACE_RESPONSE_HEADER=none",
        "OTEL_PYTHON_EXCLUDED_URLS=",
        "OTEL_SEMCONV_STABILITY_OPT_IN=",
        f"OTEL_INSTRUMENTATION_HTTP_KNOWN_METHODS={','.join(KNOWN_METHODS)}",
        f"{CAPTURE}_SERVER_REQUEST=",
        f"{CAPTURE}_SERVER_RESPONSE=",
        f"{CAPTURE}_SANITIZE_FIELDS=",
    ]


def test_secrets_are_neither_printed_nor_shown():
    settings = Settings(ops_token="t0p-t0ken", ops_username="ops", ops_password="p4ss-w0rd")

    assert "t0p-t0ken" not in str(settings) + repr(settings)
    assert "p4ss-w0rd" not in str(settings) + repr(settings)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ops_username": "a:b", "ops_password": "x"}, "expected a name without a colon"),
        ({"ops_allowed_networks": [1]}, "expected networks"),
        ({"ops_host": ""}, "expected an address"),
        ({"ops_token": None}, "expected printable ASCII"),
        ({"ops_prefix": 7}, "expected the beginning of a path"),
        ({"probe_aliases": 1}, "expected true or false"),
    ],
)
def test_a_wrong_ops_setting_is_refused(options, message):
    with pytest.raises(SettingsError, match=message):
        Settings(**options)


def test_what_settings_print_can_be_read_back(monkeypatch):
    settings = Settings(
        service_name="orders",
        environment="production",
        sensitive_fields=("pin", "ssn"),
        sensitive_patterns=("a", "b"),
        log_sample_rates="/x=0.1,*=0.5",
        otlp_insecure=False,
        trust_incoming=["10.0.0.0/8", "fd00::/8"],
        trace_response_header="traceresponse",
        excluded_urls=["/health", "/metrics"],
        semconv_opt_in=["http/dup"],
        capture_request_headers=["accept", "x-.*"],
    )
    for line in str(settings).splitlines():
        monkeypatch.setenv(*line.split("=", 1))

    assert Settings() == settings


def test_what_is_given_by_keyword_is_read_as_the_variable_would_be():
    settings = Settings(environment="Production", log_format="TEXT", log_level="warn", sensitive_fields="pin, otp")

    assert (settings.environment, settings.log_format, settings.log_level) == ("production", "text", "WARN")
    assert settings.sensitive_fields == ("pin", "otp")
