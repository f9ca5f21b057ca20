"""A reader who follows a page from top to bottom at a terminal, and expects to see what it says."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.support.readme import Block, Command, blocks, commands, matches

# A bound for whatever one block may take, not an expectation.
BLOCK_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 60.0
ASK_AGAIN_S = 0.2
LOG_TAIL_CHARACTERS = 4000
# Commands that only show what is there. Until it is, a person would simply ask again.
SHOWING = ("runs", "events", "status", "triggers", "deadletters list", "lag")

Check = Callable[["Reader", Block], None]


class Reader:
    """Follows pages in one directory, with one environment."""

    def __init__(
        self,
        directory: Path,
        environment: Mapping[str, str],
        replacements: Mapping[str, str],
        checks: Mapping[str, Check],
    ) -> None:
        """Prepare.

        Args:
            replacements: texts of the pages to what stands for them here, such as the address of a Kafka.
            checks: for each word that a block may have as `shows`, what checks it.
        """
        self.directory = directory
        self._environment = dict(environment)
        self._replacements = dict(replacements)
        self._checks = checks
        self._background: list[subprocess.Popen[bytes]] = []
        self.log = directory / "background.log"

    def follow(self, page: Path) -> None:
        """Do what the page says, block by block."""
        for block in blocks(page):
            self._do(block)

    def _do(self, block: Block) -> None:
        match list(block.attributes):
            case ["title"]:
                (self.directory / block.attributes["title"]).write_text(self._here(block.text))
            case ["shows"]:
                self._checks[block.attributes["shows"]](self, block)
            case ["not-run"]:
                pass
            case ["background"]:
                self._start(block)
            case ["dry-run"]:
                self._dry_run(block)
            case [] | ["fails"] if block.language == "console":
                for command in commands(block):
                    self._run(block, command, fails="fails" in block.attributes)
            case _:
                raise AssertionError(f"{block}: the block does not say how it is followed")

    def _here(self, text: str) -> str:
        for written, meant in self._replacements.items():
            text = text.replace(written, meant)
        return text

    def _start(self, block: Block) -> None:
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                # The last command takes the shell's place, so that a signal reaches it.
                ["bash", "-euc", self._here(_with_exec(block.text))],
                cwd=self.directory,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self._background.append(process)
        self._wait_until_ready(block)

    def _wait_until_ready(self, block: Block) -> None:
        deadline_s = time.monotonic() + BLOCK_TIMEOUT_S
        while self._shell("headrace status").returncode != 0:
            assert self._background[-1].poll() is None, f"{block} has ended: {self.log_tail()}"
            assert time.monotonic() < deadline_s, f"{block} is not ready: {self.log_tail()}"
            time.sleep(ASK_AGAIN_S)

    def _dry_run(self, block: Block) -> None:
        root = block.page.parent
        for line in block.text.splitlines():
            assert line.startswith("make "), f"{block}: only make can show what it would do"
            said = self._shell(f"cd '{root}' && {line.replace('make ', 'make --dry-run ', 1)}")
            assert said.returncode == 0, f"{block}: {line}: {said.stdout}"

    def _run(self, block: Block, command: Command, fails: bool) -> None:
        text = self._here(command.text)
        asks = text.startswith(tuple(f"headrace {name}" for name in SHOWING))
        deadline_s = time.monotonic() + BLOCK_TIMEOUT_S
        while True:
            said = self._shell(text)
            right = (said.returncode != 0) == fails and matches(command.output, self._there(said.stdout))
            if right:
                return
            if not asks or time.monotonic() > deadline_s:
                wanted = "\n".join(command.output)
                raise AssertionError(
                    f"{block.page.name}:{command.line}: `{command.text}` ended with {said.returncode} and printed\n"
                    f"{said.stdout}\nnot\n{wanted}\n\n{self.log_tail()}"
                )
            time.sleep(ASK_AGAIN_S)

    def _there(self, text: str) -> str:
        for written, meant in self._replacements.items():
            text = text.replace(meant, written)
        return text

    def say(self, text: str) -> None:
        """Run a command that is not on the page."""
        said = self._shell(text)
        assert said.returncode == 0, said.stdout

    def _shell(self, text: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-euo", "pipefail", "-c", text],
            cwd=self.directory,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=BLOCK_TIMEOUT_S,
            check=False,
        )

    def log_tail(self) -> str:
        """Return the end of what the background commands said."""
        return self.log.read_text(errors="replace")[-LOG_TAIL_CHARACTERS:] if self.log.exists() else ""

    def stop(self) -> None:
        """Press Ctrl-C in each terminal, newest first, and fail unless that ends everything cleanly."""
        codes = []
        while self._background:
            process = self._background.pop()
            process.send_signal(signal.SIGINT)
            try:
                codes.append(process.wait(STOP_TIMEOUT_S))
            except subprocess.TimeoutExpired:
                process.kill()
                codes.append(process.wait())
        assert set(codes) <= {0}, f"Ctrl-C ended them with {codes}: {self.log_tail()}"
        assert "Traceback" not in self.log_tail(), self.log_tail()

    def abandon(self) -> None:
        """Kill what still runs."""
        for process in self._background:
            process.kill()
            process.wait()


def environment_without_settings() -> dict[str, str]:
    """Return this process's environment, without what a person may have set for Headrace or Kubernetes."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("HEADRACE_", "KUBE", "METAFLOW"))}


def _with_exec(text: str) -> str:
    *before, last = text.strip().splitlines()
    return "\n".join([*before, f"exec {last}"])
