"""What Metaflow says a flow declares, and what is said of files that are no flows."""

from __future__ import annotations

import asyncio
import os
import venv
from pathlib import Path

import pytest

from headrace.edges.local import flow_inspection
from headrace.edges.local.flow_inspection import FlowInspection, inspect_flow
from headrace.model.errors import TargetError

FLOWS = Path(__file__).parent / "flows"
SMALL_FLOW = """
from metaflow import FlowSpec, Parameter, step
{before}

class SmallFlow(FlowSpec):
    {parameter} = Parameter("{parameter}", default="x")

    @step
    def start(self):
        self.next(self.end)

    @step
    def end(self):
        pass

{after}
"""
MAIN = 'if __name__ == "__main__":\n    SmallFlow()\n'


@pytest.fixture(autouse=True)
def metaflow_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Metaflow is to keep its hands off this machine's configuration, and off the working directory."""
    monkeypatch.setenv("METAFLOW_HOME", str(tmp_path / "metaflow"))
    monkeypatch.setenv("METAFLOW_USER", "tester")
    monkeypatch.delenv("METAFLOW_DATASTORE_SYSROOT_LOCAL", raising=False)
    working_directory = tmp_path / "work"
    working_directory.mkdir()
    monkeypatch.chdir(working_directory)


def write_flow(file: Path, *, parameter: str = "region", before: str = "", after: str = MAIN) -> Path:
    file.write_text(SMALL_FLOW.format(parameter=parameter, before=before, after=after))
    return file


async def test_parameters_are_named_as_on_the_command_line() -> None:
    found = await inspect_flow(FLOWS / "parameters_flow.py")
    assert found == FlowInspection(
        "ParametersFlow",
        frozenset({"text", "how-many-days", "ratio", "dry", "settings", "output", "fails"}),
        triggers=(),
    )
    assert os.listdir() == [], "inspection leaves nothing in the working directory"


async def test_triggers_configuration_neighbours_and_noise() -> None:
    found = await inspect_flow(FLOWS / "triggered_flow.py")
    assert found.name == "TriggeredFlow"
    assert found.parameters == {"region", "Phase", "rows"}, "a Config is no parameter"
    events = [
        {"name": "data_updated"},
        {"name": "TriggeredFlow.moon", "parameters": {"Phase": "moon_phase"}},
    ]
    assert found.triggers == ({"decorator": "trigger", "triggers": events},)


async def test_trigger_on_finish(tmp_path: Path) -> None:
    file = write_flow(tmp_path / "after.py")
    text = file.read_text().replace("class SmallFlow", '@trigger_on_finish(flow="UpstreamFlow")\nclass SmallFlow')
    file.write_text(text.replace("import FlowSpec", "import trigger_on_finish, FlowSpec"))
    (trigger,) = (await inspect_flow(file)).triggers
    assert trigger["decorator"] == "trigger_on_finish"
    assert trigger["triggers"][0]["flow"] == "UpstreamFlow"


async def test_trigger_that_cannot_be_evaluated_does_not_hide_the_parameters(tmp_path: Path) -> None:
    file = write_flow(
        tmp_path / "broken.py", before="from metaflow import trigger\n@trigger(event=lambda context: 1 / 0)"
    )
    found = await inspect_flow(file)
    assert found.parameters == {"region"}
    assert found.triggers[0]["decorator"] == "trigger"
    assert found.triggers[0]["error"].startswith("@trigger cannot be evaluated: ")


async def test_is_remembered_until_the_file_changes(tmp_path: Path) -> None:
    counter = tmp_path / "count"
    before = f"open({str(counter)!r}, 'a').write('x')"
    file = write_flow(tmp_path / "flow.py", before=before)
    first, second = await asyncio.gather(inspect_flow(file), inspect_flow(file))
    assert first is second is await inspect_flow(file)
    assert counter.read_text() == "x"
    write_flow(file, parameter="area", before=before)
    assert (await inspect_flow(file)).parameters == {"area"}
    assert counter.read_text() == "xx"


async def test_mistakes_are_not_remembered(tmp_path: Path) -> None:
    """A flow's mistake may lie in a module beside it, whose change the flow's file does not show."""
    file = write_flow(tmp_path / "flow.py", before="import neighbour_of_this_flow")
    with pytest.raises(TargetError, match="No module named 'neighbour_of_this_flow'"):
        await inspect_flow(file)
    (tmp_path / "neighbour_of_this_flow.py").touch()
    assert (await inspect_flow(file)).parameters == {"region"}


async def test_who_gives_up_does_not_disturb_others(tmp_path: Path) -> None:
    file = write_flow(tmp_path / "flow.py")
    impatient = asyncio.create_task(inspect_flow(file))
    patient = asyncio.create_task(inspect_flow(file))
    await asyncio.sleep(0)
    impatient.cancel()
    assert (await patient).name == "SmallFlow"
    assert impatient.cancelled()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("print('no flow')\n", r"starts no flow: it has to end in `if __name__ == '__main__':`"),
        (SMALL_FLOW.format(parameter="p", before="", after=""), "starts no flow"),
        (
            SMALL_FLOW.format(parameter="p", before="import missing_module", after=MAIN),
            r"fails: ModuleNotFoundError: No module named 'missing_module' \(line 3\)",
        ),
        ("def broken(:\n", "fails: SyntaxError: invalid syntax"),
        ("\n\n1 / 0\n", r"fails: ZeroDivisionError: division by zero \(line 3\)"),
        ("import sys\nsys.exit('set REGION first')\n", "exits before Metaflow can read it: set REGION first"),
        ("import os\nos._exit(3)\n", r"with code 3 when imported"),
        (
            SMALL_FLOW.format(parameter="p", before="from metaflow import trigger\n@trigger()", after=MAIN),
            r"Metaflow refuses the flow .*No event\(s\) specified in \*@trigger\* decorator",
        ),
    ],
    ids=["script", "never started", "import error", "syntax", "exception", "exit", "hard exit", "wrong decorator"],
)
async def test_file_that_is_no_usable_flow(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "flow.py"
    file.write_text(text)
    with pytest.raises(TargetError, match=message) as refusal:
        await inspect_flow(file)
    assert str(file) in str(refusal.value)


async def test_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(TargetError, match=rf"the flow {tmp_path}/gone\.py cannot be read: No such file"):
        await inspect_flow(tmp_path / "gone.py")
    with pytest.raises(TargetError, match=rf"the flow {tmp_path} is not a file"):
        await inspect_flow(tmp_path)


async def test_flow_that_waits_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flow_inspection, "INSPECTION_TIMEOUT_S", 0.5)
    file = write_flow(tmp_path / "flow.py", before="import time; time.sleep(600)")
    with pytest.raises(TargetError, match=r"was not imported within 0\.5 s"):
        await inspect_flow(file)


async def test_process_that_an_import_starts_is_not_waited_for(tmp_path: Path) -> None:
    file = write_flow(tmp_path / "flow.py", before="import subprocess; subprocess.Popen(['sleep', '600'])")
    assert (await inspect_flow(file)).name == "SmallFlow"


async def test_python_without_metaflow_or_none_at_all(tmp_path: Path) -> None:
    file = write_flow(tmp_path / "flow.py")
    bare = tmp_path / "bare"
    venv.create(bare, with_pip=False, symlinks=True)
    with pytest.raises(TargetError, match=rf"{bare}/bin/python has no Metaflow \(No module named 'metaflow'\)"):
        await inspect_flow(file, str(bare / "bin" / "python"))
    with pytest.raises(TargetError, match=r"python0\.9, does not exist"):
        await inspect_flow(file, "python0.9")
