"""Apache Kafka's jars, resolved from Maven Central by jgo into the user's local Maven repository.

jgo's environment builder is not used on purpose: to sort jars into class path and module path it downloads a
whole JDK of its own. The embedded Kafka runs on a plain class path, so resolving the artifacts is enough.
"""

from __future__ import annotations

import fcntl
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import ParseError

import requests
from jgo.config import GlobalSettings
from jgo.constants import MAVEN_CENTRAL_URL
from jgo.maven import Artifact, MavenContext, PythonResolver

from headrace.model.errors import HeadraceError

KAFKA_VERSION = "4.4.0"
# Kafka 4.4.0 logs through slf4j 1.7 and brings log4j 2.25.5 itself; this is the binding between those two.
# The "!" keeps jgo from applying log4j's own dependency management to everything: it would put kafka-clients
# 3.9.1 beside Kafka 4.4.0.
SLF4J_BINDING = "org.apache.logging.log4j:log4j-slf4j-impl:2.25.5!"
KAFKA_SERVER = f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}"

# What the first resolution downloads, for the progress line only.
DOWNLOAD_MEGABYTES = 45
# How many jars one progress line covers, so that a slow network shows movement without flooding the terminal.
JARS_PER_PROGRESS_LINE = 10


class KafkaJarsUnavailable(HeadraceError):
    """Apache Kafka's jars are neither in the local Maven repository nor to be had from a remote one."""


class _TidyResolver(PythonResolver):
    """Removes what an interrupted download leaves: jgo writes to the final place and would later trust it."""

    def download(self, artifact: Artifact) -> Path | None:
        try:
            downloaded: Path | None = super().download(artifact)
        except BaseException:
            _discard(artifact)
            raise
        return downloaded


def resolve_class_path(
    progress: Callable[[str], None], artifacts: Sequence[str] = (KAFKA_SERVER, SLF4J_BINDING)
) -> tuple[Path, ...]:
    """Return the jars of the Kafka server, or of other `artifacts`, downloading what the local repository lacks.

    `progress` is called with one sentence for each visible step. Raises `KafkaJarsUnavailable`, whose message
    is one sentence for the person at the terminal, when a jar can be had from nowhere.
    """
    settings = GlobalSettings.load()
    context = MavenContext(
        resolver=_TidyResolver(),
        repo_cache=settings.repo_cache,
        remote_repos={"central": MAVEN_CENTRAL_URL, **settings.repositories},
    )
    repository: Path = context.repo_cache
    server_jar = context.create_dependency(artifacts[0]).artifact.cached_path
    if server_jar is not None and server_jar.exists():
        progress(f"resolving Kafka {KAFKA_VERSION}")
    else:
        progress(f"resolving Kafka {KAFKA_VERSION} (first time: about {DOWNLOAD_MEGABYTES} MB)")
    try:
        with _exclusive(repository):
            return _download(_artifacts(context, artifacts), progress)
    except requests.RequestException as error:
        raise KafkaJarsUnavailable(
            f"Kafka {KAFKA_VERSION} could not be downloaded from Maven Central ({type(error).__name__}): "
            "check the network or proxy and try again, or name a Kafka in HEADRACE_BOOTSTRAP_SERVERS."
        ) from error
    except ParseError as error:
        raise KafkaJarsUnavailable(
            f"The local Maven repository {repository} holds a damaged .pom file ({error}), as a crash in the "
            "middle of a download leaves it: delete the .pom files that are cut off, and try again."
        ) from error
    except (RuntimeError, OSError, ValueError) as error:
        raise KafkaJarsUnavailable(f"Kafka {KAFKA_VERSION} could not be resolved into {repository}: {error}") from error


def _artifacts(context: MavenContext, coordinates: Sequence[str]) -> Sequence[Artifact]:
    """Walk the dependency graph; this reads descriptions only and downloads no jar."""
    inputs = [context.create_dependency(coordinate) for coordinate in coordinates]
    named, transitive = context.resolver.resolve(inputs)
    needed = [*named, *(found for found in transitive if found.scope in ("compile", "runtime"))]
    unique: dict[Any, Artifact] = {found.artifact.key: found.artifact for found in needed}
    return list(unique.values())


def _download(artifacts: Sequence[Artifact], progress: Callable[[str], None]) -> tuple[Path, ...]:
    jars: list[Path] = []
    downloaded = downloaded_bytes = 0
    for artifact in artifacts:
        was_here = artifact.cached_path is not None and artifact.cached_path.exists()
        jar = Path(artifact.resolve())
        if not zipfile.is_zipfile(jar):
            # A process killed in the middle of a download leaves a truncated jar that jgo takes for a whole
            # one.
            _discard(artifact)
            was_here = False
            jar = Path(artifact.resolve())
        if not was_here:
            downloaded += 1
            downloaded_bytes += jar.stat().st_size
            if downloaded % JARS_PER_PROGRESS_LINE == 0:
                megabytes = downloaded_bytes // 1_000_000
                progress(f"downloaded {downloaded} of {len(artifacts)} jars ({megabytes} MB)")
        jars.append(jar)
    return tuple(jars)


def _discard(artifact: Artifact) -> None:
    if artifact.cached_path is not None:
        Path(artifact.cached_path).unlink(missing_ok=True)


@contextmanager
def _exclusive(repository: Path) -> Iterator[None]:
    """Let one process at a time download: jgo would take another's half-written file for a whole one."""
    repository.mkdir(parents=True, exist_ok=True)
    with (repository / ".headrace.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
