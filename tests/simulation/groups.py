"""Consumer groups as Kafka's coordinator keeps them: members, who owns which partition, and committed offsets."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.simulation.faults import Kind
from tests.simulation.log import TopicPartition

if TYPE_CHECKING:
    from tests.simulation.world import World


@dataclass
class Member:
    """One consumer, as the coordinator sees it."""

    name: str
    topics: set[str]
    seen_s: float
    owned: set[TopicPartition] = field(default_factory=set)
    target: set[TopicPartition] = field(default_factory=set)
    expelled: bool = False
    """Nothing was heard of it for a session; what it owned may be another's."""


class Group:
    """One group. A partition has one owner at a time; who is expelled learns of it only when it asks."""

    def __init__(self, world: World, role: str, session_s: float, eager: bool) -> None:
        """Let members be silent for `session_s`; `eager` has everybody give back everything in each rebalance."""
        self._world = world
        self._role = role
        self._session_s = session_s
        self._eager = eager
        self._members: dict[str, Member] = {}
        self._must_give_back: set[str] = set()
        self.committed: dict[TopicPartition, int] = {}
        self._last_owner: dict[TopicPartition, str] = {}

    def join(self, name: str, topics: set[str]) -> Member:
        """Become a member, or change what one wants."""
        member = self._members.get(name)
        if member is None:
            member = self._members[name] = Member(name, topics, self._world.loop.now_s)
        elif member.topics == topics:
            return member
        member.topics = topics
        self._rebalance()
        return member

    def leave(self, member: Member) -> None:
        """Go, giving everything back."""
        if self._members.pop(member.name, None) is not None:
            member.owned = set()
            self._rebalance()

    def seen(self, member: Member) -> None:
        """A sign of life."""
        member.seen_s = self._world.loop.now_s

    def expire(self) -> None:
        """Expel who has been silent for too long."""
        now_s = self._world.loop.now_s
        silent = [m for m in self._members.values() if now_s - m.seen_s > self._session_s]
        for member in silent:
            del self._members[member.name]
            member.expelled = True
            self._world.trace("group", f"{self._role} expels {member.name}")
        if silent:
            self._rebalance()

    def to_give_back(self, member: Member) -> set[TopicPartition]:
        """What a member must give back before others can go on."""
        if self._eager:
            return set(member.owned) if member.name in self._must_give_back else set()
        return member.owned - member.target

    def owes(self, member: Member) -> bool:
        """Whether a member has to take part in a rebalance, even if it has nothing to give back."""
        return member.name in self._must_give_back

    def give_back(self, member: Member, partitions: set[TopicPartition]) -> None:
        """Give partitions back."""
        member.owned -= partitions
        self._must_give_back.discard(member.name)

    def to_take(self, member: Member) -> set[TopicPartition]:
        """What a member may take over now: what is meant for it and nobody else has any more."""
        if self._eager and self._must_give_back & self._members.keys():
            return set()
        taken = {at for other in self._members.values() for at in other.owned}
        return member.target - taken

    def take(self, member: Member, partitions: set[TopicPartition]) -> None:
        """Take partitions over."""
        member.owned |= partitions
        for at in partitions:
            if self._last_owner.get(at, member.name) != member.name:
                self._world.faults.note(Kind.REBALANCE)
            self._last_owner[at] = member.name

    def owner(self, at: TopicPartition) -> str | None:
        """Who owns a partition now."""
        return next((m.name for m in self._members.values() if at in m.owned), None)

    def commit(self, member: Member, offsets: dict[TopicPartition, int]) -> bool:
        """Commit; False where the member may not any more."""
        if member.expelled or member.name not in self._members or not offsets.keys() <= member.owned:
            self._world.faults.note(Kind.COMMIT_REFUSED)
            return False
        self.seen(member)
        for at, offset in offsets.items():
            self.committed[at] = offset
            self._world.judge.committed(self._role, at, offset)
        return True

    def _rebalance(self) -> None:
        members = sorted(self._members.values(), key=lambda member: member.name)
        wanted = sorted({at for m in members for topic in m.topics for at in self._world.log.partitions(topic)})
        load = {member.name: 0 for member in members}
        targets: dict[str, set[TopicPartition]] = {member.name: set() for member in members}
        fair = -(-len(wanted) // max(1, len(members)))
        for at in wanted:
            fitting = [member for member in members if at[0] in member.topics]
            holder = next((m for m in fitting if at in m.owned and load[m.name] < fair), None)
            chosen = holder or min(fitting, key=lambda m: (load[m.name], self._world.random.random()))
            load[chosen.name] += 1
            targets[chosen.name].add(at)
        for member in members:
            member.target = targets[member.name]
        self._must_give_back = {member.name for member in members if self._eager}
