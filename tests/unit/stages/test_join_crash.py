"""The join crashes: whatever was durable by then, the next lives fire what an unbroken life fires, and nothing else."""

from __future__ import annotations

from hypothesis import example, given, settings
from hypothesis import strategies as st

from headrace.model.frame import Frame, Match, Tick
from headrace.stages import changelog
from tests.unit.stages.build import make_definition, make_event
from tests.unit.stages.crash import Compaction, Kafka, Life, live, run_whole, small_changelog_records, waiting
from tests.unit.stages.logs import REPUBLISHED_MS, Records, logs

# A log is cheap to run, and its rare states are many.
MORE = settings(max_examples=3 * settings().max_examples)
FEWER = settings(max_examples=max(10, settings().max_examples // 3))

lives = st.lists(
    st.builds(
        Life, behind=st.integers(0, 5), effects_max=st.integers(0, 60), compaction=st.sampled_from(list(Compaction))
    ),
    max_size=4,
)
last_life = st.builds(Life, behind=st.integers(0, 30), compaction=st.sampled_from(list(Compaction)))


def check_lives(log: Records, crashing: list[Life], last: Life) -> None:
    """Compare several lives with one unbroken life over the same log."""
    whole, expected = run_whole(log)
    kafka = Kafka(log)
    for life in crashing:
        live(kafka, life)
    state = live(kafka, last)
    assert state is not None
    assert kafka.delivered == whole.delivered
    assert waiting(state) == waiting(expected)
    reader = Kafka(log, changelog=kafka.changelog)
    again = live(reader, Life(behind=len(log), compaction=Compaction.SUPERSEDED_AND_TOMBSTONES))
    assert again is not None
    assert waiting(again) == waiting(expected)
    assert reader.deliveries == []


@MORE
@given(logs(payload_characters_max=40), lives, last_life)
def test_crashes_neither_lose_nor_double_nor_alter_a_firing(log: Records, crashing: list[Life], last: Life) -> None:
    check_lives(log, crashing, last)


@MORE
@given(logs(payload_characters_max=40), lives, last_life)
def test_nor_where_heads_do_not_fit_their_own_records(log: Records, crashing: list[Life], last: Life) -> None:
    with small_changelog_records():
        check_lives(log, crashing, last)


@MORE
@given(logs(shifts_ms=REPUBLISHED_MS, payload_characters_max=40), lives, last_life)
def test_nor_where_events_are_published_again_with_later_times(log: Records, crashing: list[Life], last: Life) -> None:
    with small_changelog_records():
        check_lives(log, crashing, last)


@FEWER
@given(logs(payload_characters_max=40), st.integers(0, 5), st.sampled_from(list(Compaction)))
def test_a_crash_between_any_two_effects(log: Records, behind: int, compaction: Compaction) -> None:
    with small_changelog_records():
        whole, expected = run_whole(log)
        for effects in range(len(whole.deliveries) + len(whole.changelog)):
            kafka = Kafka(log)
            assert live(kafka, Life(effects_max=effects)) is None
            state = live(kafka, Life(behind=behind, compaction=compaction))
            assert state is not None
            assert kafka.delivered == whole.delivered, f"crash after {effects} effects"
            assert waiting(state) == waiting(expected), f"crash after {effects} effects"


@MORE
@given(logs(payload_characters_max=40), lives)
def test_once_all_has_expired_the_changelog_holds_nothing_but_the_partition(log: Records, crashing: list[Life]) -> None:
    log = Records([*log, Tick(100_000)])
    with small_changelog_records():
        kafka = Kafka(log)
        for life in crashing:
            live(kafka, life)
        # A new life looks at what it restored with its own ticks, and a moment later than the one before would have.
        log.extend([Tick(200_000), Tick(300_000)])
        state = live(kafka, Life())
    assert state is not None
    assert len(state.heads) == 0
    assert [key for key, _ in kafka.readable(Compaction.SUPERSEDED_AND_TOMBSTONES)] == [changelog.PARTITION_KEY]


def many_under_one_key() -> Records:
    """A log whose one key uses 700 ids and lets 40 events of 200 bytes each wait, with duplicates of all in between."""
    definition = make_definition(window_ms=100_000, match="each")
    payload = '{"x":"' + "y" * 200 + '"}'

    def match(name: str, number: int) -> Match:
        event = make_event(f"{name}{number}", name, 1_000 + number, number, payload=payload)
        return Match(definition, event, ("ab".index(name),), "1")

    log = Records()
    for first in range(0, 350, 10):
        numbers = range(first, first + 10)
        log.append(Frame(tuple(match("a", number) for number in numbers)))
        log.append(Frame(tuple(match("b", number) for number in numbers if number >= 10)))
        log.append(Frame(tuple(match(name, number // 2) for number in numbers for name in "ab" if number >= 20)))
        log.append(Tick(first))
    log.append(Frame(tuple(match("a", number) for number in range(350, 390))))
    return log


@FEWER
@given(st.lists(st.integers(0, 400), min_size=1, max_size=3), st.sampled_from(list(Compaction)))
@example([0], Compaction.NONE)
def test_hundreds_of_ids_and_events_under_one_key_survive_crashes(effects: list[int], compaction: Compaction) -> None:
    log = many_under_one_key()
    whole, expected = run_whole(log)
    assert len(whole.delivered) == 340
    assert any(key[:1] == b"u" for key, _ in whole.changelog)
    assert any(key[:1] == b"e" for key, _ in whole.changelog)
    kafka = Kafka(log)
    for count in effects:
        live(kafka, Life(behind=3, effects_max=count, compaction=compaction))
    state = live(kafka, Life(behind=3, compaction=compaction))
    assert state is not None
    assert kafka.delivered == whole.delivered
    assert waiting(state) == waiting(expected)
