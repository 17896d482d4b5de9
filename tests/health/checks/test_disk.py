"""Room on a disk."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from asgi_obs.errors import ConfigurationError
from asgi_obs.health.checks import DiskCheck
from asgi_obs.health.checks.sizes import size_text


@pytest.mark.parametrize(
    ("degraded", "unhealthy", "status"), [(0, 0, "healthy"), (1, 0, "degraded"), (1, 1, "unhealthy")]
)
def test_it_compares_what_is_free_with_the_disk(tmp_path, degraded, unhealthy, status) -> None:
    assert DiskCheck(tmp_path, degraded=degraded, unhealthy=unhealthy)().status == status


def test_it_says_how_much_is_free(tmp_path) -> None:
    total = size_text(shutil.disk_usage(tmp_path).total)
    assert DiskCheck(tmp_path)().message.endswith(f" of {total} free")


def test_a_path_that_is_not_there_is_an_error(tmp_path) -> None:
    with pytest.raises(FileNotFoundError):
        DiskCheck(tmp_path / "none")()


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs /proc")
def test_a_disk_without_size_is_healthy() -> None:
    assert DiskCheck("/proc", degraded=1, unhealthy=1)().message == "0 B of 0 B free"


@pytest.mark.parametrize(
    ("path", "options", "wrong"),
    [
        ("", {}, "path"),
        (None, {}, "path"),
        ("/", {"degraded": 2}, "degraded"),
        ("/", {"unhealthy": 0.2}, "degraded"),
        ("/", {"unhealthy": -1}, "unhealthy"),
    ],
)
def test_wrong_options_are_refused(path, options, wrong) -> None:
    with pytest.raises(ConfigurationError) as raised:
        DiskCheck(path, **options)
    assert raised.value.option == wrong
