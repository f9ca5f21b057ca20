"""All errors of this package, in one tree: catch HeadracePublisherError to catch them all."""


class HeadracePublisherError(Exception):
    """An event could not be published, or the publisher could not be used.

    Where `publish_many` raises in the middle, `ids` holds the ids of the events that it had queued before, in
    order. These are still delivered and must not be published again under new ids.
    """

    ids: tuple[str, ...] = ()


class InvalidEventName(HeadracePublisherError):
    """The event's name cannot be a Kafka topic.

    Legal names have 1 to 249 of the characters `A-Z a-z 0-9 . _ -` and are neither `.` nor `..`. Kafka also
    refuses a topic whose name differs from an existing one only in `.` and `_` (`a.b` and `a_b`); as only the
    broker knows its topics, that refusal arrives as DeliveryFailed.
    """


class InvalidPayload(HeadracePublisherError):
    """The payload is not a JSON object; the message names the field that is at fault."""


class InvalidAttribute(HeadracePublisherError):
    """An id, time, key or header of the event is of the wrong type, empty, or reserved."""


class PayloadTooLarge(HeadracePublisherError):
    """The payload, as JSON, has more bytes than allowed (`payload_bytes_max`)."""


class NotConfigured(HeadracePublisherError):
    """No Kafka brokers are known, or a setting for them is unusable."""


class NotPublished(HeadracePublisherError):
    """`ArgoEvent.safe_publish` was called outside a deployed Argo workflow, where it publishes nothing."""


class PublisherUnusable(HeadracePublisherError):
    """The publisher is closed, or was called from where it would wait for itself."""


class QueueFull(HeadracePublisherError):
    """The queue stayed full for `queue_timeout_s`, as events are made faster than the brokers take them."""


class DeliveryFailed(HeadracePublisherError):
    """Kafka did not acknowledge the event.

    `event` and `id` say which; `reason` is librdkafka's name of the error, such as `_MSG_TIMED_OUT`. After a
    timeout the event may nevertheless have arrived. Publishing it again with the same id is safe, as Headrace
    counts an id once.
    """

    def __init__(self, message: str, event: str, id: str, reason: str) -> None:
        super().__init__(message)
        self.event = event
        self.id = id
        self.reason = reason
