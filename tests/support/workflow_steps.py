"""Runs a Workflow's steps on this machine: the commands of its template, as the containers of its pods run them.

There is no Argo controller and no kubelet here. So this does what they do for the templates that Metaflow writes: it
fills the variables, gives the container its environment, a /mnt/out of its own and an empty directory, and hands one
task's output parameters to the next. What it does not know it refuses, so that no step passes by accident.
"""

from __future__ import annotations

import base64
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

TASK_TIMEOUT_S = 120.0
_VARIABLE = re.compile(r"\{\{(.*?)\}\}")
_BASE64 = re.compile(r"=toBase64\(workflow\.parameters\['([^']+)'\]\)")
_OUT = "/mnt/out"
# An emptyDir volume, without a container: a mount that only this process and its children see.
_WITH_OUT = f'mount -t tmpfs none /mnt && mkdir {_OUT} && bash -c "$1"; code=$?; cp {_OUT}/* "$2"; exit $code'


@dataclass
class Steps:
    """One Workflow's steps, in the order of its DAG; `run` runs them all."""

    workflow: dict[str, Any]
    template: dict[str, Any]
    environment: Mapping[str, str]
    directory: Path
    _values: dict[str, str] = field(default_factory=dict)

    def run(self) -> dict[str, str]:
        """Run each step to its successful end; return what each wrote to its outputs, such as `task-id`, by step."""
        metadata, spec = self.workflow["metadata"], self.template["spec"]
        for name in ("name", "namespace", "creationTimestamp"):
            self._values[f"workflow.{name}"] = metadata[name]
        for parameter in spec["arguments"]["parameters"] + self.workflow["spec"]["arguments"]["parameters"]:
            self._values[f"workflow.parameters.{parameter['name']}"] = parameter["value"]
        templates = {template["name"]: template for template in spec["templates"]}
        done: dict[str, str] = {}
        for task in templates[spec["entrypoint"]]["dag"]["tasks"]:
            depends = task["depends"].removesuffix(".Succeeded")
            assert not depends or depends in done, (
                f"{task['name']} depends on {task['depends']}, which is not so simple"
            )
            for parameter in task["arguments"]["parameters"]:
                self._values[f"inputs.parameters.{parameter['name']}"] = self._filled(parameter["value"])
            done[task["name"]] = self._run(templates[task["template"]], self.directory / task["name"])
            self._values[f"tasks.{task['name']}.outputs.parameters.task-id"] = done[task["name"]]
        return done

    def _filled(self, text: str) -> str:
        def value(found: re.Match[str]) -> str:
            if encoded := _BASE64.fullmatch(found[1]):
                return base64.b64encode(self._values[f"workflow.parameters.{encoded[1]}"].encode()).decode()
            return self._values[found[1]]

        return _VARIABLE.sub(value, text)

    def _run(self, template: dict[str, Any], directory: Path) -> str:
        container = template["container"]
        shell, option, command = container["command"]
        assert (shell, option) == ("bash", "-c")
        out = directory / "out"
        out.mkdir(parents=True)
        # A container has a /tmp of its own, which Metaflow uses for one file.
        command = self._filled(command).replace("/tmp/mf-input-paths", str(directory / "mf-input-paths"))
        done = subprocess.run(
            ["unshare", "--map-root-user", "--mount", "bash", "-c", _WITH_OUT, "container", command, str(out)],
            cwd=directory,
            env=self._environment(container),
            capture_output=True,
            text=True,
            timeout=TASK_TIMEOUT_S,
        )
        said = f"{done.stdout}\n{done.stderr}"
        (directory / "log").write_text(said)
        assert done.returncode == 0, f"the step {template['name']} ended with {done.returncode}:\n{said}"
        return (out / "task_id").read_text()

    def _environment(self, container: dict[str, Any]) -> dict[str, str]:
        fields = {
            "metadata.name": f"{self._values['workflow.name']}-{container['name']}",
            "metadata.namespace": self._values["workflow.namespace"],
            "metadata.uid": self.workflow["metadata"]["uid"],
            "spec.serviceAccountName": "default",
            "status.hostIP": "127.0.0.1",
        }
        given = {
            variable["name"]: fields[source["fieldRef"]["fieldPath"]]
            if (source := variable["valueFrom"])
            else self._filled(variable["value"])
            for variable in container["env"]
        }
        # What an image brings: Python with the packages that Metaflow would otherwise install at each start.
        image = {
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), "/usr/bin", "/bin"]),
            "HOME": str(self.directory),
            "METAFLOW_SKIP_INSTALL_DEPENDENCIES": "1",
        }
        return {**image, **self.environment, **given}
