"""ArgoEvent: Metaflow's class of that name, publishing to Kafka in place of an Argo Events webhook."""

import os
import threading
import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Self

from .delivery import Delivery, DeliveryCallback, call_back, say
from .errors import DeliveryFailed, NotConfigured, NotPublished
from .publisher import Publisher
from .record import check_event_name, new_id
from .settings import PublisherSettings, resolve

_publishers: dict[PublisherSettings, Publisher] = {}
_publishers_lock = threading.Lock()


class ArgoEvent:
    """An event that starts the flows which wait for it by `@trigger(event=name)`.

    Takes the place of `metaflow.integrations.ArgoEvent`, with the same arguments, and flows see the same
    payload.

    - `name`: the event's name, or a callable without arguments that returns it, such as Metaflow's
      `namespaced_event_name('foo')`, and is called at each `publish`.
    - `url`: `kafka://host:port[,host:port…]` publishes to these brokers instead of the configured ones
      (see `settings.bootstrap_servers`). An HTTP address is refused, as this class speaks to Kafka alone.
    - `payload`: fields of the event, which become parameters of the flows.
    - `access_token`: taken for compatibility and without effect; Kafka's credentials are
      `HEADRACE_KAFKA_SASL_*`.
    - `on_delivery`: beyond Metaflow's arguments, a callback that gets the outcome of each event.

    Raises InvalidEventName for an unusable `name` and NotConfigured for an unusable `url`.
    """

    def __init__(
        self,
        name: str | Callable[[], str],
        url: str | None = None,
        payload: Mapping[str, Any] | None = None,
        access_token: str | None = None,
        *,
        on_delivery: DeliveryCallback | None = None,
    ) -> None:
        self._name = name if callable(name) else check_event_name(name)
        self._servers = _servers_in(url)
        self._payload: dict[str, Any] = dict(payload or {})
        self._on_delivery = on_delivery

    def add_to_payload(self, key: str, value: object) -> Self:
        """Sets a field of the payload to `str(value)`, as Metaflow's class does, and returns this event."""
        self._payload[key] = str(value)
        return self

    def safe_publish(self, payload: Mapping[str, Any] | None = None, ignore_errors: bool = True) -> str | None:
        """As `publish` inside a deployed Argo workflow; elsewhere nothing is published.

        Elsewhere it says so on stderr and returns None, or raises NotPublished with `ignore_errors=False`,
        which is what Metaflow's class does.
        """
        return self.publish(payload=payload, force=False, ignore_errors=ignore_errors)

    def publish(
        self, payload: Mapping[str, Any] | None = None, force: bool = True, ignore_errors: bool = True
    ) -> str | None:
        """Publishes the event, with `payload` added to its fields, and returns the payload's `id`.

        With `ignore_errors`, it returns without waiting for Kafka. A failure that shows at once is reported
        on stderr and to `on_delivery`, and None is returned; one that shows later is reported in the same
        way. Without, it waits until Kafka has acknowledged the event, and raises DeliveryFailed,
        NotConfigured, InvalidPayload or another HeadracePublisherError. With `force=False` it acts as
        `safe_publish`.

        The id is a new UUID unless the payload brings an `id` of its own. If that is neither a UUID nor the
        payload's `pathspec`, it does not identify the event: two events with such an id remain two.
        """
        # The same variable decides in Metaflow; Argo's compiler sets it in every step's container.
        if not force and not os.environ.get("ARGO_WORKFLOW_TEMPLATE"):
            text = f"Event {self._shown_name()} was not published, as this is no deployed Argo workflow. "
            error = NotPublished(text + "Use ArgoEvent(...).publish(...) to publish it from anywhere.")
            if not ignore_errors:
                raise error
            say(str(error))
            return None
        id = new_id()
        try:
            fields = {**self._payload, **(payload or {})}
            id = identity(fields) or id
            return self._publish(id, fields, wait=not ignore_errors)
        # With `ignore_errors` a flow must go on whatever happens here, as it does with Metaflow's class.
        except Exception as error:
            if not ignore_errors:
                raise
            self._report(id, error)
            return None

    def _publish(self, id: str, fields: Mapping[str, Any], wait: bool) -> str | None:
        name = check_event_name(self._name() if callable(self._name) else self._name)
        payload = metaflow_payload(name, id, fields, datetime.now(UTC))
        publisher = shared_publisher(self._servers)
        if wait:
            delivery = publisher.deliver(name, payload, id=id)
            if self._on_delivery is not None:
                call_back(self._on_delivery, delivery)
        else:
            publisher.publish(name, payload, id=id, on_delivery=self._on_delivery)
        payload_id: str | None = payload["id"]
        return payload_id

    def _report(self, id: str, error: Exception) -> None:
        name = self._shown_name()
        text = str(error) if isinstance(error, DeliveryFailed) else f"Event {name} was not published: {error}"
        say(text)
        if self._on_delivery is not None:
            if not isinstance(error, DeliveryFailed):
                error = DeliveryFailed(text, name, id, "_NOT_PUBLISHED")
            call_back(self._on_delivery, Delivery(name, error.id, error))

    def _shown_name(self) -> str:
        return self._name if isinstance(self._name, str) else getattr(self._name, "__name__", "")


def metaflow_payload(name: str, id: str, fields: Mapping[str, Any], now: datetime) -> dict[str, Any]:
    """The payload as Metaflow's class makes it: five fields of its own, which `fields` may override, and `fields`."""
    return {
        "name": name,
        "id": id,
        "timestamp": int(now.timestamp()),
        "utc_date": now.astimezone(UTC).strftime("%Y%m%d"),
        "generated-by-metaflow": True,
        **fields,
    }


def identity(payload: Mapping[str, Any]) -> str | None:
    """The payload's `id` if it identifies the event, else None.

    It does, as in Metaflow's envelopes, if it is a UUID, or the pathspec of the run that the payload reports.
    Anything else could be the id of a customer or an order, which many events share, and all but the first of
    them would be lost as duplicates.
    """
    id = payload.get("id")
    if not isinstance(id, str) or not id:
        return None
    if id == payload.get("pathspec"):
        return id
    try:
        return id if str(uuid.UUID(id)) == id.lower() else None
    except ValueError:
        return None


def shared_publisher(servers: str | None = None) -> Publisher:
    """The process's publisher for these brokers and the environment's settings, open until the process ends."""
    settings = resolve(servers, os.environ)
    with _publishers_lock:
        publisher = _publishers.get(settings)
        if publisher is None:
            publisher = _publishers[settings] = Publisher(servers)
        return publisher


def _servers_in(url: str | None) -> str | None:
    """The brokers in a `kafka://` address, or in a bare `host:port` list."""
    if not url:
        return None
    scheme, separator, servers = url.partition("://")
    if not separator:
        servers = url
    elif scheme in {"http", "https"}:
        raise NotConfigured(
            f"This ArgoEvent publishes to Kafka, and the url {url} is an HTTP address. To publish by HTTP, "
            "use metaflow.integrations.ArgoEvent with the address of Headrace's ingress; to publish to Kafka, "
            "leave the url away or give kafka://host:port."
        )
    elif scheme != "kafka":
        raise NotConfigured(f"The url {url} is no Kafka address: give kafka://host:port, or leave it away.")
    servers = servers.rstrip("/")
    if not servers:
        raise NotConfigured(f"The url {url} names no broker: give kafka://host:port, or leave it away.")
    return servers


def _after_fork_in_child() -> None:
    global _publishers_lock
    _publishers_lock = threading.Lock()


if hasattr(os, "register_at_fork"):  # Windows cannot fork.
    os.register_at_fork(after_in_child=_after_fork_in_child)
