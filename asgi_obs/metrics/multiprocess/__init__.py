"""Right numbers when several processes serve one port: `PROMETHEUS_MULTIPROC_DIR`.

directory      which one, whether it will do, its lock, who lives
series         the keys of the files
file           the file of a process
fold           the files of dead processes become one
store          where this process keeps its values
values         the values behind the metrics of prometheus_client
families       from totals to families
view           what is scraped
installation   puts the values in place, when the catalogue is imported
siblings       the warning that the variable is not set
"""

from asgi_obs.metrics.multiprocess.installation import install, look_after_files, view_of
from asgi_obs.metrics.multiprocess.siblings import warn_of_siblings

__all__ = ["install", "look_after_files", "view_of", "warn_of_siblings"]
