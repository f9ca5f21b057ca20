"""The catalogue follows the code: each fault's text is there, exactly once."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.mutations.catalogue import MUTATIONS
from tests.mutations.mutation import ROOT, Mutation


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_a_fault_can_still_be_put_back(mutation: Mutation, tmp_path: Path) -> None:
    source, copy = (root / "engine" / "headrace" / mutation.file for root in (ROOT, tmp_path))
    copy.parent.mkdir(parents=True)
    shutil.copy(source, copy)
    mutation.apply(tmp_path)
    changed = copy.read_text()
    assert changed != source.read_text()
    compile(changed, mutation.file, "exec")


def test_names_are_apart() -> None:
    names = [mutation.name for mutation in MUTATIONS]
    assert len(names) == len(set(names))
