"""When the variable is set, the metrics made from now on keep their values in the directory that it names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from prometheus_client import CollectorRegistry, values

from asgi_obs.errors import SettingsError
from asgi_obs.metrics.hot import has_gil
from asgi_obs.metrics.multiprocess.directory import VARIABLE, configured, prepare
from asgi_obs.metrics.multiprocess.store import Store
from asgi_obs.metrics.multiprocess.values import value_class
from asgi_obs.metrics.multiprocess.view import MultiprocessView

__all__ = ["install", "look_after_files", "view_of"]

_installed: Final[list[Store]] = []


def install() -> None:
    """Have `prometheus_client` use our values if `PROMETHEUS_MULTIPROC_DIR` is set; may be called again.

    Raises:
        SettingsError: The directory cannot be used.
    """
    directory = configured()
    if directory is None or _installed:
        return
    store = Store(prepare(directory))
    try:
        store.start()
    except OSError as error:
        raise SettingsError(VARIABLE, directory, f"a directory with room for metrics ({error})") from error
    # The classes of metrics look it up here when they make a value.
    values.ValueClass = value_class(store, has_gil=has_gil())
    _installed.append(store)


def look_after_files() -> None:
    """Make the file of this process again if somebody has removed it; to be called now and then, from a thread."""
    for store in _installed:
        store.look_after()


def view_of(
    registry: CollectorRegistry, pause: Callable[[], object] = lambda: None
) -> CollectorRegistry | MultiprocessView:
    """What is to be scraped: the metrics of all processes if they share a directory, else the registry itself.

    Args:
        registry: The metrics of this process.
        pause: See `MultiprocessView`.
    """
    return MultiprocessView(registry, _installed[0], pause) if _installed else registry
