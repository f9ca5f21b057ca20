"""When expired things are taken out of memory is chance: a crash, or a busy key, moves it. It must decide nothing.

In all examples window + lateness is 100 ms, so that what lies before join time - 100 has expired.
"""

from __future__ import annotations

from dataclasses import replace

from headrace.model.frame import Frame, Match, Tick
from headrace.stages.join import JoinState
from tests.unit.stages.build import make_definition, make_event
from tests.unit.stages.crash import Kafka, Life, live, run_whole
from tests.unit.stages.logs import Records

DEFINITION = make_definition(window_ms=100)


def frame(*arrivals: tuple[str, str, int]) -> Frame:
    """A frame of events: the dependency, the id and the time."""
    return Frame(
        tuple(
            Match(DEFINITION, make_event(event_id, name, time_ms, time_ms), ("ab".index(name),), "")
            for name, event_id, time_ms in arrivals
        )
    )


def fired(log: Records) -> list[str]:
    state = JoinState(0)
    return [
        " ".join(event.id for event in firing.events)
        for offset, record in enumerate(log)
        for firing in state.apply(offset, record).firings
    ]


def test_a_used_id_is_new_again_beyond_the_horizon_however_memory_is_tidied() -> None:
    """
    a:  10(x)            95(x)        x at 10 has expired when join time is 111; the head is looked at for 50 first
    b:  12   50   60
    """
    tidied = Records([frame(("a", "x", 10), ("b", "b1", 12)), Tick(111), frame(("a", "x", 95), ("b", "b2", 96))])
    assert fired(tidied) == ["x b1", "x b2"]
    busy = Records(
        [
            frame(("a", "a50", 50), ("b", "b50", 50)),
            frame(("a", "x", 10), ("b", "b1", 12)),
            Tick(111),
            frame(("a", "x", 95), ("b", "b2", 96)),
        ]
    )
    assert fired(busy) == ["a50 b50", "x b1", "x b2"]


def test_a_waiting_id_is_new_again_beyond_the_horizon_however_memory_is_tidied() -> None:
    tidied = Records([frame(("a", "x", 10)), Tick(111), frame(("a", "x", 95)), frame(("b", "b2", 96))])
    assert fired(tidied) == ["x b2"]
    busy = Records(
        [frame(("a", "a50", 50)), frame(("a", "x", 10)), Tick(111), frame(("a", "x", 95)), frame(("b", "b2", 96))]
    )
    assert fired(busy) == ["x b2"]


def test_a_crash_does_not_bring_expired_ids_back() -> None:
    """The ids that a tick forgets stay in the head's last record; a new life must not take them for known."""
    log = Records(
        [
            frame(("a", "x", 10), ("b", "b1", 12)),
            frame(("a", "a90", 90)),
            Tick(111),
            frame(("a", "x", 95)),
            frame(("b", "b2", 96)),
        ]
    )
    whole, _ = run_whole(log)
    for effects in range(len(whole.changelog) + len(whole.deliveries)):
        kafka = Kafka(log)
        live(kafka, Life(effects_max=effects))
        live(kafka, Life())
        assert kafka.delivered == whole.delivered, f"crash after {effects} effects"


def test_a_generation_is_forgotten_with_what_it_held_however_memory_is_tidied() -> None:
    """
    Generation 2 held x, which has expired at join time 111. What is left of a router with generation 1 then starts
    anew, whether or not the tick was in time to remove the empty head.
    """
    newer = replace(DEFINITION, generation=2, signature="changed")
    held = Frame((Match(newer, make_event("x", "a", 10), (0,), ""),))
    older = [frame(("a", "a95", 95)), frame(("b", "b96", 96))]
    assert fired(Records([held, Tick(111), *older])) == ["a95 b96"]
    # A crash after the tick's own record leaves the head in the changelog.
    log = Records([held, Tick(111), *older])
    whole, _ = run_whole(log)
    for effects in range(len(whole.changelog) + len(whole.deliveries)):
        kafka = Kafka(log)
        live(kafka, Life(effects_max=effects))
        live(kafka, Life())
        assert kafka.delivered == whole.delivered, f"crash after {effects} effects"
