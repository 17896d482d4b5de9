"""The memory limits of control groups, read from directories as the kernel lays them out."""

from __future__ import annotations

from pathlib import Path

import pytest

from asgi_obs.health.checks.cgroup import memory_limits


@pytest.fixture
def system(tmp_path):
    def write(files: dict[str, str]) -> Path:
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return tmp_path

    return write


def test_version_2_has_the_limits_of_the_group_and_of_those_around_it(system) -> None:
    root = system(
        {
            "proc/self/cgroup": "0::/app.slice/web.service\n",
            "sys/fs/cgroup/app.slice/web.service/memory.max": "1000\n",
            "sys/fs/cgroup/app.slice/memory.max": "500\n",
        }
    )
    assert memory_limits(root) == [1000, 500]


def test_version_2_in_a_container_has_the_limit_at_its_root(system) -> None:
    root = system({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "1000\n"})
    assert memory_limits(root) == [1000]


def test_version_1_has_a_directory_for_memory(system) -> None:
    root = system(
        {
            "proc/self/cgroup": "3:cpu,cpuacct:/a\n4:memory:/a\n1:name=systemd:/b\n",
            "sys/fs/cgroup/memory/a/memory.limit_in_bytes": "2000\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
            "sys/fs/cgroup/cpu,cpuacct/a/memory.limit_in_bytes": "1\n",
        }
    )
    assert memory_limits(root) == [2000, 9223372036854771712]


def test_version_1_in_a_container_has_the_path_of_the_host_and_the_limit_at_its_root(system) -> None:
    root = system(
        {
            "proc/self/cgroup": "4:memory:/docker/0123abcd\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": "2000\n",
        }
    )
    assert memory_limits(root) == [2000]


def test_a_group_may_have_a_colon_in_its_name(system) -> None:
    root = system({"proc/self/cgroup": "0::/a:b\n", "sys/fs/cgroup/a:b/memory.max": "1000\n"})
    assert memory_limits(root) == [1000]


def test_a_group_without_a_limit_has_none(system) -> None:
    root = system({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "max\n"})
    assert memory_limits(root) == []


def test_a_system_without_groups_has_none(tmp_path) -> None:
    assert memory_limits(tmp_path) == []
