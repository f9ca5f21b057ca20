"""A list of Kubernetes objects, part by part: an answer with all of them may be more than a request's time allows."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from typing import Any
from urllib.parse import urlencode

import orjson

from headrace.edges.kube.api import KubeApi, Reply, RequestRefused


async def pages(
    api: KubeApi, path: str, selected: Mapping[str, str], objects_max: int
) -> AsyncGenerator[dict[str, Any], None]:
    """Yield the parts of the list at `path`, as the server has them, until there are no more.

    Args:
        selected: the query that chooses objects, such as a `labelSelector`.
        objects_max: how many objects a part may have.

    Raises:
        RequestRefused: the server answers with something else than a list.
        ApiUnreachable: it does not answer.
    """
    page = ""
    while True:
        query = {**selected, "limit": objects_max, **({"continue": page} if page else {})}
        reply = await api.get(f"{path}?{urlencode(query)}")
        if reply.status != 200:
            raise RequestRefused(reply, f"{path} cannot be listed: {words(reply)}")
        listed = orjson.loads(reply.body)
        yield listed
        page = listed["metadata"].get("continue", "")
        if not page:
            return


def words(reply: Reply) -> str:
    """The server's own words in a refusal."""
    try:
        return f"HTTP {reply.status}: {orjson.loads(reply.body)['message']}"
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return f"HTTP {reply.status}: {reply.body[:200].decode('utf-8', 'replace').strip()}"
