"""One tree of errors. Each message says what happened, to which object, and what to do next."""


class HeadraceError(Exception):
    """Anything that Headrace itself refuses or gives up on; the message is a sentence for a person."""


class SettingsError(HeadraceError):
    """A setting has a value that cannot work."""


class TriggerError(HeadraceError):
    """A trigger's definition cannot be used."""


class EventNameError(HeadraceError):
    """A name cannot be an event's name, since it cannot be a Kafka topic's."""


class RecordError(HeadraceError):
    """An internal record cannot be read: it is damaged, or a version that this release does not know."""


class NoBrokerError(HeadraceError):
    """Kafka could not be reached."""


class TopicError(HeadraceError):
    """A topic is missing, or its settings would lose data."""


class NotFoundError(HeadraceError):
    """A trigger, dead letter or event with that name does not exist."""


class NotConfirmedError(HeadraceError):
    """No router confirmed a deployment in time."""


class TargetError(HeadraceError):
    """The system that runs workflows is not configured, or refuses us for good."""
