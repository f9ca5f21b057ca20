"""Local runs: real processes, of Metaflow where it matters, with their ends, logs, slots and deaths."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from headrace.edges.local import runs as local_runs
from headrace.edges.local.runs import ARGUMENT_BYTES_MAX, LocalRun, LocalRunNotStarted, LocalRunRefused, LocalRuns
from headrace.model.errors import SettingsError
from tests.support.processes import is_gone

FLOWS = Path(__file__).parent / "flows"
DEADLINE_S = 60.0
STOP_S = 30.0
TEXTS = {
    "plain": "north",
    "empty": "",
    "option": "--help",
    "short_option": "-x",
    "equals": "a=b=c",
    "newlines": "one\ntwo\r\n",
    "quotes": 'it\'s "so" $HOME `id` \\ *',
    "unicode": "grüß dich 日本 🌒",
    "spaces": "  a  b  ",
    "json": '{"region": ["n", null]}',
}


@pytest.fixture
def metaflow_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METAFLOW_HOME", str(tmp_path / "metaflow"))
    monkeypatch.setenv("METAFLOW_DATASTORE_SYSROOT_LOCAL", str(tmp_path))
    monkeypatch.setenv("METAFLOW_USER", "tester")


@pytest.fixture
async def runs(tmp_path: Path) -> AsyncIterator[LocalRuns]:
    """Two slots; whatever still runs when the test ends is stopped."""
    started = LocalRuns(tmp_path / "logs", 2)
    yield started
    await started.stop(0.0)


@pytest.fixture
def script(tmp_path: Path) -> Callable[[str], Path]:
    """Writes a Python file that stands for a flow: it gets the same command line, and starts sooner."""

    def write(code: str) -> Path:
        file = tmp_path / "script.py"
        file.write_text(f"import json, os, signal, subprocess, sys, time\n{code}\n")
        return file

    return write


async def wait_until(condition: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline_s, f"not so after {DEADLINE_S:g} s"
        await asyncio.sleep(0.02)


def read_pids(file: Path) -> list[int]:
    return [int(word) for word in file.read_text().split()]


async def ended(run: LocalRun) -> int:
    async with asyncio.timeout(DEADLINE_S):
        return await run.wait()


@pytest.mark.usefixtures("metaflow_home")
async def test_metaflow_gets_its_parameters_as_written(runs: LocalRuns, tmp_path: Path) -> None:
    output = tmp_path / "output.json"
    text = "--help -x\nsecond line\t'\"$HOME 日本 🌒"
    parameters = {
        "text": text,
        "how-many-days": "-3",
        "ratio": "-0.25",
        "dry": "true",
        "settings": '{"a": [1, null]}',
        "output": str(output),
    }
    run = await runs.start("f1", FLOWS / "parameters_flow.py", parameters)
    assert await ended(run) == 0, run.log.read_text()
    assert json.loads(output.read_text()) == [text, -3, -0.25, True, {"a": [1, None]}]
    assert run.log == tmp_path / "logs" / "f1.log"
    assert "the flow says: grüß dich" in run.log.read_text()


@pytest.mark.usefixtures("metaflow_home")
async def test_failing_flow_ends_with_its_code_and_says_why(runs: LocalRuns, tmp_path: Path) -> None:
    parameters = {"output": str(tmp_path / "output.json"), "fails": "true"}
    run = await runs.start("f1", FLOWS / "parameters_flow.py", parameters)
    assert await ended(run) == 1
    assert "RuntimeError: asked to fail" in run.log.read_text()


@pytest.mark.usefixtures("metaflow_home")
async def test_stop_ends_the_steps_of_a_flow_too(runs: LocalRuns, tmp_path: Path) -> None:
    pid_file = tmp_path / "pids"
    parameters = {"pid_file": str(pid_file), "until": str(tmp_path / "never")}
    await runs.start("f1", FLOWS / "waiting_flow.py", parameters)
    await wait_until(pid_file.exists)
    step, flow = read_pids(pid_file)
    assert await runs.stop(STOP_S) == ("f1",)
    await wait_until(lambda: is_gone(step) and is_gone(flow))


@pytest.mark.usefixtures("metaflow_home")
async def test_a_flow_does_not_outlive_a_killed_engine(tmp_path: Path) -> None:
    """The engine is killed without a chance to clear up: the flow and its step must end by themselves."""
    pid_file = tmp_path / "pids"
    engine_code = (
        "import asyncio, sys\nfrom pathlib import Path\nfrom headrace.edges.local.runs import LocalRuns\n"
        "async def main():\n"
        "    runs = LocalRuns(Path(sys.argv[1]) / 'logs', 1)\n"
        "    parameters = {'pid_file': sys.argv[3], 'until': sys.argv[3] + '.never'}\n"
        "    await (await runs.start('f1', Path(sys.argv[2]), parameters)).wait()\n"
        "asyncio.run(main())\n"
    )
    arguments = ["-c", engine_code, str(tmp_path), str(FLOWS / "waiting_flow.py"), str(pid_file)]
    engine = await asyncio.create_subprocess_exec(sys.executable, *arguments)
    await wait_until(pid_file.exists)
    step, flow = read_pids(pid_file)
    assert not is_gone(step) and not is_gone(flow)
    engine.kill()
    await engine.wait()
    await wait_until(lambda: is_gone(step) and is_gone(flow))


async def test_arguments_arrive_as_written(runs: LocalRuns, script: Callable[[str], Path], tmp_path: Path) -> None:
    output = tmp_path / "output.json"
    flow = script(f"open({str(output)!r}, 'w').write(json.dumps(sys.argv))")
    assert await ended(await runs.start("f1", flow, TEXTS)) == 0
    assert json.loads(output.read_text()) == [str(flow), "run", *(f"--{name}={text}" for name, text in TEXTS.items())]


async def test_environment_is_passed_through_and_added_to(
    runs: LocalRuns, script: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEPT", "kept")
    monkeypatch.setenv("REPLACED", "old")
    flow = script("print(*(os.environ[name] for name in ('KEPT', 'REPLACED', 'ADDED')), os.getcwd())")
    run = await runs.start("f1", flow, {}, {"REPLACED": "new", "ADDED": "added"})
    assert await ended(run) == 0
    assert run.log.read_text() == f"kept new added {os.getcwd()}\n"


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("", 0),
        ("sys.exit(7)", 7),
        ("raise ValueError('no')", 1),
        ("os.kill(os.getpid(), signal.SIGTERM)", 128 + signal.SIGTERM),
        ("os.kill(os.getpid(), signal.SIGKILL)", 128 + signal.SIGKILL),
        ("os.kill(os.getppid(), signal.SIGKILL); time.sleep(60)", 128 + signal.SIGKILL),
    ],
    ids=["0", "7", "exception", "SIGTERM", "SIGKILL", "its guard is killed"],
)
async def test_exit_codes(runs: LocalRuns, script: Callable[[str], Path], code: str, expected: int) -> None:
    run = await runs.start("f1", script(code), {})
    assert [await ended(run), await ended(run)] == [expected, expected]


async def test_log_has_both_outputs_and_keeps_what_was_there(runs: LocalRuns, script: Callable[[str], Path]) -> None:
    flow = script("print('out', flush=True); print('error', file=sys.stderr); assert sys.stdin.read() == ''")
    for _ in range(2):
        run = await runs.start("f1", flow, {})
        assert await ended(run) == 0
    assert run.log.read_text() == "out\nerror\n" * 2


async def test_slots(runs: LocalRuns, script: Callable[[str], Path], tmp_path: Path) -> None:
    go = tmp_path / "go"
    flow = script(f"\nwhile not os.path.exists({str(go)!r}): time.sleep(0.01)")
    assert runs.free_slots == 2
    first, second = await asyncio.gather(runs.start("f1", flow, {}), runs.start("f2", flow, {}))
    assert runs.free_slots == 0
    with pytest.raises(LocalRunNotStarted, match="all 2 slots for local runs are taken"):
        await runs.start("f3", flow, {})
    # Who gives up waiting takes neither the run nor its slot away.
    waiter = asyncio.create_task(first.wait())
    await asyncio.sleep(0)
    waiter.cancel()
    assert runs.free_slots == 0
    go.touch()
    assert [await ended(first), await ended(second)] == [0, 0]
    await wait_until(lambda: runs.free_slots == 2)


async def test_what_a_run_leaves_behind_is_killed(
    runs: LocalRuns, script: Callable[[str], Path], tmp_path: Path
) -> None:
    pid_file = tmp_path / "pid"
    flow = script(
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        f"open({str(pid_file)!r}, 'w').write(str(child.pid))"
    )
    assert await ended(await runs.start("f1", flow, {})) == 0
    await wait_until(lambda: is_gone(read_pids(pid_file)[0]))


async def test_stop_asks_then_kills_and_tells_who_was_cut_short(script: Callable[[str], Path], tmp_path: Path) -> None:
    runs = LocalRuns(tmp_path / "logs", 3)
    manners = {
        "polite": "signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))",
        "plain": "",
        "stubborn": "signal.signal(signal.SIGTERM, signal.SIG_IGN)",
    }
    started = []
    for name, manner in manners.items():
        ready = tmp_path / name
        started.append(await runs.start(name, script(f"{manner}\nopen({str(ready)!r}, 'w'); time.sleep(600)"), {}))
        await wait_until(ready.exists)
    assert set(await runs.stop(1.0)) == {"plain", "stubborn"}
    codes = [await ended(run) for run in started]
    assert codes == [0, 128 + signal.SIGTERM, 128 + signal.SIGKILL]
    assert runs.free_slots == 0
    with pytest.raises(LocalRunNotStarted):
        await runs.start("late", script(""), {})
    assert await runs.stop(STOP_S) == ()


async def test_stop_asks_only_once(script: Callable[[str], Path], tmp_path: Path) -> None:
    """A second signal would interrupt the clearing up that the first one began."""
    runs = LocalRuns(tmp_path / "logs", 1)
    ready = tmp_path / "ready"
    flow = script(
        "def clear_up(*_):\n    print('asked'); time.sleep(0.3); os._exit(sys.stdout.flush() or 0)\n"
        f"signal.signal(signal.SIGTERM, clear_up)\nopen({str(ready)!r}, 'w'); time.sleep(600)"
    )
    run = await runs.start("f1", flow, {})
    await wait_until(ready.exists)
    assert await runs.stop(STOP_S) == ()
    assert run.log.read_text() == "asked\n"


async def test_stop_meets_a_run_that_is_just_being_started(script: Callable[[str], Path], tmp_path: Path) -> None:
    runs = LocalRuns(tmp_path / "logs", 1)
    starting = asyncio.create_task(runs.start("f1", script("time.sleep(600)"), {}))
    await asyncio.sleep(0)
    await runs.stop(0.0)
    assert await ended(await starting) > 128


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"big": "x" * ARGUMENT_BYTES_MAX}, rf"parameter big has \d+ bytes .*; a process takes {ARGUMENT_BYTES_MAX}"),
        ({"nul": "a\0b"}, "the value of parameter nul holds a zero byte"),
        ({"half": "\ud83c"}, "the value of parameter half is no valid Unicode text"),
        ({"": "x"}, "'' cannot be a flow's parameter"),
        ({"a=b": "x"}, "'a=b' cannot be a flow's parameter"),
        ({"-with": "kubernetes"}, "'-with' cannot be a flow's parameter"),
        ({f"p{n}": "x" * 120_000 for n in range(200)}, "longer than this system lets a process's arguments be"),
    ],
    ids=["too long", "zero byte", "surrogate", "no name", "name with =", "name of an option", "too many"],
)
async def test_what_no_process_can_be_given_is_refused(
    runs: LocalRuns, script: Callable[[str], Path], parameters: dict[str, str], message: str
) -> None:
    with pytest.raises(LocalRunRefused, match=message):
        await runs.start("f1", script(""), parameters)
    assert runs.free_slots == 2


async def test_longest_argument_arrives(runs: LocalRuns, script: Callable[[str], Path]) -> None:
    flow = script("print(len(sys.argv[2]))")
    run = await runs.start("f1", flow, {"big": "x" * (ARGUMENT_BYTES_MAX - len("--big="))})
    assert await ended(run) == 0
    assert run.log.read_text() == f"{ARGUMENT_BYTES_MAX}\n"


async def test_firing_id_cannot_lead_elsewhere(runs: LocalRuns, script: Callable[[str], Path]) -> None:
    with pytest.raises(LocalRunRefused, match=r"the firing id '\.\./f1' cannot name a log file"):
        await runs.start("../f1", script(""), {})


async def test_flow_that_does_not_exist_fails_in_its_log(runs: LocalRuns, tmp_path: Path) -> None:
    run = await runs.start("f1", tmp_path / "gone.py", {})
    assert await ended(run) == 2
    assert "No such file" in run.log.read_text()


def test_python_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"the Python for local flows, python0\.9, does not exist"):
        LocalRuns(tmp_path, 1, "python0.9")


async def test_oldest_logs_are_removed_but_none_in_use(
    script: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_runs, "LOGS_MAX", 3)
    runs = LocalRuns(tmp_path / "logs", 1)
    for age in range(5):
        log = tmp_path / "logs" / f"old-{age}.log"
        log.touch()
        os.utime(log, (1_000_000 - age, 1_000_000 - age))
    run = await runs.start("new", script(""), {})
    assert await ended(run) == 0
    assert {log.name for log in (tmp_path / "logs").iterdir()} == {"new.log", "old-0.log", "old-1.log"}

    # The run in progress has the oldest log of all.
    go = tmp_path / "go"
    os.utime(tmp_path / "logs" / "old-1.log", (1, 1))
    run = await runs.start("old-1", script(f"\nwhile not os.path.exists({str(go)!r}): time.sleep(0.01)"), {})
    os.utime(run.log, (1, 1))
    (tmp_path / "logs" / "more.log").touch()
    runs.remove_old_logs()
    assert run.log.exists()
    go.touch()
    assert await ended(run) == 0
