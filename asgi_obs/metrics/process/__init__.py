"""The process itself: CPU, memory, file descriptors, event loops, thread pool, garbage; and which service it is.

registration   register_process_metrics
monitor        the thread that samples and watches; attach, sample_if_stale
sampler        what the operating system says
garbage        the pauses of the garbage collector
event_loop     how late event loops are; lag
timers         what an event loop calls again and again
thread_pool    how busy the threads of sync handlers are
watchdog       what blocks an event loop
registries     where the values are shown
"""

from asgi_obs.metrics.process.registration import register_process_metrics

__all__ = ["register_process_metrics"]
