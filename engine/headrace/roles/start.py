"""Start: builds a role's edges, hands them in, and runs it until a signal. The one place that knows all of them."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import sys
import threading
from dataclasses import replace

from confluent_kafka import KafkaException

from headrace.edges.kafka.topics import ensure_internal_topics
from headrace.model.errors import HeadraceError, SettingsError
from headrace.roles.health import Health
from headrace.roles.stopping import stop_on_signals
from headrace.settings import Settings

ROLES = ("route", "join", "submit", "ingress", "sync")
OPTIONAL_ROLES = frozenset({"ingress", "sync"})
"""Roles that nothing else waits for: where none of them runs, Headrace is whole all the same."""

GC_THRESHOLDS = (20_000, 20, 20)
"""Of Python's cyclic collector, by generation; its defaults are 700, 10, 10."""

log = logging.getLogger(__name__)


def start_role(role: str, settings: Settings, *, if_wanted: bool = False) -> None:
    """Run `role` until SIGTERM or SIGINT, then stop it cleanly.

    Args:
        role: one of `ROLES`.
        settings: the role's.
        if_wanted: end at once where `sync` finds no Sensors that it may read.

    Raises:
        HeadraceError: it cannot start, or cannot go on; the message says why.
    """
    partitions = ensure_internal_topics(settings)
    health = Health(settings, role)
    log.info("%s serves /livez, /readyz and /metrics on %s", role, health.serve())
    try:
        match role:
            case "route":
                _run_route(settings, partitions, health)
            case "join":
                asyncio.run(_run_join(settings, partitions, health))
            case "submit":
                asyncio.run(_run_submit(settings, health))
            case "ingress":
                asyncio.run(_run_ingress(settings, health))
            case "sync":
                asyncio.run(_run_sync(settings, health, if_wanted))
            case _:
                raise SettingsError(f"there is no role {role}; there are {', '.join(ROLES)}")
    except KafkaException as error:
        # Most are met where they arise. What a group's callback asks while brokers come and go is not: the next process
        # asks again.
        raise HeadraceError(f"{role} cannot go on, for Kafka's client says: {error.args[0]}") from error
    finally:
        health.close()
    log.info("%s has stopped", role)


def steady_heap() -> None:
    """Spare the collector what a role imports, and look for cycles less often: it makes hardly any.

    By default the collector goes through all modules again and again, which under load is a sixth of a submitter's
    time, and a pause in everybody's latency.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)


def configure_logging(role: str) -> None:
    """Log to stderr, one line for each record, the role in front."""
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format=f"%(asctime)s {role:<6} %(levelname)-7s %(message)s"
    )
    for handler in logging.getLogger().handlers:
        handler.addFilter(_is_ours)
    for noisy in ("faust", "mode", "aiokafka", "kafka", "asyncio"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def _is_ours(record: logging.LogRecord) -> bool:
    """Leave out the starts and stops of Faust's services, which log below the names of our own modules."""
    return record.levelno >= logging.WARNING or not record.getMessage().startswith("[^")


def _run_route(settings: Settings, partitions: dict[str, int], health: Health) -> None:
    from headrace.roles import route

    steady_heap()
    stop = threading.Event()
    stop_on_signals(stop.set)
    route.run(settings, partitions, health, stop)


def _stop_in_loop() -> asyncio.Event:
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    stop_on_signals(lambda: loop.call_soon_threadsafe(stop.set))
    return stop


async def _run_join(settings: Settings, partitions: dict[str, int], health: Health) -> None:
    from headrace.roles import join

    steady_heap()
    await join.run(settings, partitions, health, _stop_in_loop())


async def _run_ingress(settings: Settings, health: Health) -> None:
    from headrace.roles import ingress

    await ingress.run(settings, health, _stop_in_loop())


async def _run_sync(settings: Settings, health: Health, if_wanted: bool) -> None:
    from headrace.edges.kube import api as kube
    from headrace.roles import sync

    stop = _stop_in_loop()
    api = await kube.KubeApi.connect()
    try:
        namespaces = settings.namespaces if settings.namespaces != () else (api.context_namespace,)
        if if_wanted and not await sync.may_read(api, namespaces):
            log.info("there are no Sensors that may be read, so there is nothing to keep in step with")
            return
        log.info("Sensors are watched at %s in %s", api.server, ", ".join(namespaces or ("every namespace",)))
        await sync.run(settings, api, namespaces, health, stop)
    finally:
        await api.close()


async def _run_submit(settings: Settings, health: Health) -> None:
    from headrace.edges.kube import api as kube
    from headrace.edges.kube.templates import Templates
    from headrace.edges.local.runs import LocalRuns
    from headrace.roles import submit
    from headrace.roles.attempt import Kubernetes, Nowhere, TargetSystem

    steady_heap()
    stop = _stop_in_loop()
    local = LocalRuns(settings.state / submit.LOCAL_LOGS, settings.local_runs_max)
    async with contextlib.AsyncExitStack() as closing:
        kubernetes: TargetSystem = Nowhere()
        if kube.configured():
            api = await kube.KubeApi.connect()
            closing.push_async_callback(api.close)
            if settings.namespaces == ():
                settings = replace(settings, namespaces=(api.context_namespace,))
            templates = Templates(api, settings.namespaces)
            templates.start()
            closing.push_async_callback(templates.close)
            with contextlib.suppress(kube.ApiUnreachable):
                await api.warm(submit.API_CONNECTIONS_WARM)
            kubernetes = Kubernetes(api, templates, settings.namespaces)
            log.info("workflows start at %s in %s", api.server, ", ".join(settings.namespaces or ("every namespace",)))
        else:
            log.warning("no Kubernetes credentials are set: only local flows can run")
        await submit.run(settings, kubernetes, local, health, stop)
