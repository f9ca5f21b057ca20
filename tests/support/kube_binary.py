"""The Kubernetes API server for tests as one Go binary, built once and kept in the user's cache.

A cold build compiles all of kube-apiserver and etcd, which takes minutes. Run this module to have it done
ahead of the tests: ``python -m tests.support.kube_binary`` prints the binary's path.
"""

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

from tests.support.exclusive import exclusive

SOURCE_DIRECTORY = Path(__file__).resolve().parent.parent / "apiserver"


class KubeServerError(RuntimeError):
    """A Kubernetes API server for the tests could not be had; the message says what to do."""


def cached_binary_path() -> Path:
    """Where the binary of this checkout's source is kept, whether or not it is there yet."""
    cache_home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    source_hash = hashlib.sha256()
    for file in sorted(file for file in SOURCE_DIRECTORY.iterdir() if file.suffix in (".go", ".mod", ".sum")):
        source_hash.update(file.read_bytes())
    return Path(cache_home) / "headrace" / f"apiserver-{source_hash.hexdigest()[:16]}"


def ensure_binary() -> Path:
    """Return the binary's path, building it first if no run before has done so.

    :raises KubeServerError: if it must be built and Go is missing, or its build fails.
    """
    binary = cached_binary_path()
    if binary.exists():
        return binary
    if shutil.which("go") is None:
        raise KubeServerError(
            "The tests need a Kubernetes API server: install Go 1.26 or newer to build one, or start Docker to run k3s."
        )
    binary.parent.mkdir(parents=True, exist_ok=True)
    # Of two test runs one builds, and the other waits for it.
    with exclusive(binary.with_name("apiserver.lock")):
        if not binary.exists():
            _build(binary)
    return binary


def _build(binary: Path) -> None:
    # Under its own name the binary is always whole: an interrupted build leaves only the unfinished one.
    unfinished = binary.with_name(f"{binary.name}.unfinished")
    command = ["go", "build", "-trimpath", "-mod=readonly", "-ldflags=-s -w", "-o", str(unfinished), "."]
    result = subprocess.run(command, cwd=SOURCE_DIRECTORY, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise KubeServerError(
            f"The Kubernetes API server for the tests does not build: `{' '.join(command)}` "
            f"in {SOURCE_DIRECTORY} said: {result.stderr[-2000:].strip()}"
        )
    unfinished.replace(binary)


if __name__ == "__main__":
    print(ensure_binary())
