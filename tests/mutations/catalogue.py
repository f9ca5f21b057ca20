"""The faults. Each was made somewhere, by us or by others, or is one that a rule of docs/rules.md exists to prevent."""

from __future__ import annotations

from tests.mutations.decisions import DECISIONS
from tests.mutations.effects import EFFECTS
from tests.mutations.submission import SUBMISSION

MUTATIONS = (*DECISIONS, *EFFECTS, *SUBMISSION)
