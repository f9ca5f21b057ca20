"""Publishes events to the Kafka topics that Headrace starts workflows from."""

from typing import TYPE_CHECKING, Any

from .argo_event import ArgoEvent
from .delivery import Delivery, DeliveryCallback
from .errors import (
    DeliveryFailed,
    HeadracePublisherError,
    InvalidAttribute,
    InvalidEventName,
    InvalidPayload,
    NotConfigured,
    NotPublished,
    PayloadTooLarge,
    PublisherUnusable,
    QueueFull,
)
from .publisher import Publisher

if TYPE_CHECKING:
    from .aio import AsyncPublisher

__all__ = [
    "ArgoEvent",
    "AsyncPublisher",
    "Delivery",
    "DeliveryCallback",
    "DeliveryFailed",
    "HeadracePublisherError",
    "InvalidAttribute",
    "InvalidEventName",
    "InvalidPayload",
    "NotConfigured",
    "NotPublished",
    "PayloadTooLarge",
    "Publisher",
    "PublisherUnusable",
    "QueueFull",
]


def __getattr__(name: str) -> Any:
    # asyncio costs as much to import as all the rest, and most programs that publish do without.
    if name == "AsyncPublisher":
        from .aio import AsyncPublisher

        return AsyncPublisher
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
