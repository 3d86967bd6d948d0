"""Runs both sites of compose/ with podman; in each a message is sent, and the register backed up and put back.

Needs root, podman with crun, iproute2, and the images: `mosaic-controlplane` and `mosaic-hostagent` (see
compose/Containerfile for how they are built) and the PostgreSQL image that compose.yaml names. Where that one cannot be
had, `--own-postgres` makes its stand-in of the server that mosaic-controlplane carries. Each site gets a network
namespace of its own, in which its parts find one another by name. Everything is removed at the end.

Prints a table; ends with 1 when a site did not do its work.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parents[1]
SITES = ("east", "west")
PARTS = ("postgres", "controlplane", "hostagent")
WAIT_SECONDS = 120.0
ROSTER = """version: 1
transport: tmux
agents:
  - {name: clerk, runtime: shell, host: %s1, working_directory: /tmp}
"""
STAND_IN = """
PATH=$(echo /opt/mosaic/lib/python3*/site-packages/*_pgserver/pginstall18/bin):$PATH
printenv POSTGRES_PASSWORD > /tmp/password
initdb -D /tmp/data --username=$POSTGRES_USER --pwfile=/tmp/password --auth=scram-sha-256 --encoding=UTF8
exec postgres -D /tmp/data -c listen_addresses=127.0.0.1 -c unix_socket_directories=/tmp
"""


class Podman:
    """podman, with a store of its own if one is named."""

    def __init__(self, store: str) -> None:
        self.base = ["podman", "--cgroup-manager=cgroupfs"]
        if store:
            self.base += ["--root", f"{store}/root", "--runroot", f"{store}/runroot", "--storage-driver=vfs"]

    def __call__(self, *arguments: str, stdin: str = "", check: bool = True) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [*self.base, *arguments], input=stdin, capture_output=True, text=True, check=False, timeout=300
        )
        if check and done.returncode:
            raise SystemExit(f"podman {' '.join(arguments)}:\n{done.stdout}{done.stderr}")
        return done


def in_a_cgroup_of_its_own() -> None:
    """Go on in a cgroup and a mount namespace of our own, where podman finds cgroup2 alone."""
    if "MOSAIC_COMPOSE_CGROUP" in os.environ:
        return
    found = subprocess.run(["findmnt", "-rno", "TARGET", "-t", "cgroup2"], capture_output=True, text=True, check=True)
    group = Path(found.stdout.splitlines()[0]) / f"mosaic-compose-{os.getpid()}"
    group.mkdir()
    script = f'''echo $$ > {group}/cgroup.procs
        exec unshare -m -C sh -ec 'mount -t cgroup2 cgroup2 /sys/fs/cgroup; exec "$0" "$@"' "$0" "$@"'''
    environment = {**os.environ, "MOSAIC_COMPOSE_CGROUP": str(group)}
    os.execvpe("sh", ["sh", "-ec", script, sys.executable, "-m", "bench.compose", *sys.argv[1:]], environment)


def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit(f"never happened: {what}")
        time.sleep(0.2)


class Site:
    """One site: its containers share a network namespace."""

    def __init__(self, name: str, podman: Podman, services: dict[str, Any], password: str) -> None:
        self.name, self.podman, self.services = name, podman, services
        self.password = password
        self.namespace = f"mosaic-compose-{name}"
        self.containers = [f"{name}-{part}" for part in PARTS]

    def start(self) -> None:
        subprocess.run(["ip", "netns", "add", self.namespace], check=True)
        subprocess.run(["ip", "-n", self.namespace, "link", "set", "lo", "up"], check=True)
        self.run("postgres")
        until(lambda: self.ready("postgres"), f"the register of {self.name} takes connections")
        self.run("controlplane")
        until(
            lambda: self.inside("controlplane", "test", "-e", "/var/lib/mosaic-home/run/controlplane.json"), "it serves"
        )
        self.run("hostagent")

    def ready(self, part: str) -> bool:
        test = "echo | exec 3<>/dev/tcp/127.0.0.1/5432"
        return self.inside(part, "bash", "-c", test)

    def run(self, part: str, *once: str) -> str:
        """Start a part; with a command `once`, as `compose run --rm` would. Returns what podman printed."""
        name = f"{self.name}-{part}"
        service = self.services[name]
        options = ["--rm", "--volumes-from", name] if once else ["--name", name, "--detach"]
        options += ["--runtime", "crun", "--cgroups=disabled"]
        options += [
            "--network",
            f"ns:/run/netns/{self.namespace}",
            "--ulimit",
            "nofile=1024:1024",
            "--ulimit",
            "nproc=1000:1000",
        ]
        options += [word for other in self.containers for word in ("--add-host", f"{other}:127.0.0.1")]
        options += [word for cap in service.get("cap_drop", []) for word in ("--cap-drop", cap.lower())]
        options += [
            word for option in service.get("security_opt", []) for word in ("--security-opt", option.partition(":")[0])
        ]
        if service.get("init") and (shutil.which("catatonit") or Path("/usr/libexec/podman/catatonit").exists()):
            options += ["--init"]
        for key, value in service.get("environment", {}).items():
            filled = str(value).replace(f"${{MOSAIC_{self.name.upper()}_PASSWORD}}", self.password)
            options += ["--env", f"{key}={self.password if filled.startswith('${') else filled}"]
        return self.podman("run", *options, service["image"], *(once or service.get("command", []))).stdout

    def told(self) -> str:
        """What its containers said last."""
        ends = {name: self.podman("logs", "--tail", "20", name, check=False) for name in self.containers}
        return "".join(f"--- {name}\n{done.stdout}{done.stderr}" for name, done in ends.items())

    def inside(self, part: str, *command: str) -> bool:
        return self.podman("exec", f"{self.name}-{part}", *command, check=False).returncode == 0

    def mosaic(self, *arguments: str, stdin: str = "") -> str:
        return self.podman("exec", "-i", f"{self.name}-controlplane", "mosaic", *arguments, stdin=stdin).stdout

    def work(self, wrapper: Path) -> float:
        """Enrol, apply a roster, send a message; returns the seconds from sending to its receipt."""
        environment = {**os.environ, "MOSAIC_COMPOSE": str(wrapper)}
        for _ in range(2):  # the second time there is nothing left to do
            subprocess.run([ROOT / "compose" / "enrol", self.name], check=True, env=environment)
        host = lambda: json.loads(self.mosaic("host", "ls", "-o", "json"))["items"]  # noqa: E731
        until(lambda: [item["state"] for item in host()] == ["live"], f"the host of {self.name} is live")
        self.podman(
            "exec", "-i", f"{self.name}-controlplane", "sh", "-c", "cat > /tmp/roster.yaml", stdin=ROSTER % self.name
        )
        self.mosaic("fleet", "apply", "--roster", "/tmp/roster.yaml", "--yes")
        began = time.monotonic()
        self.mosaic("agent", "send", "clerk", "-m", f'echo "{self.name} answers $((6 * 7))"')
        took = time.monotonic() - began
        until(lambda: f"{self.name} answers 42" in self.mosaic("agent", "tail", "clerk"), "the agent answers")
        return took

    def put_back(self) -> None:
        """Back the register up and restore it, as docs/production.md says; what was made in between is gone."""
        backup = "/var/lib/mosaic-home/backup"
        self.podman("exec", f"{self.name}-controlplane", "mosaic-controlplane", "backup", backup)
        self.mosaic("tenant", "create", "later", "--admin", "anna")
        self.podman("stop", "--time", "30", f"{self.name}-controlplane")
        self.run("controlplane", "mosaic-controlplane", "restore", backup, "--replace")
        self.podman("start", f"{self.name}-controlplane")
        until(lambda: self.inside("controlplane", "mosaic", "agent", "ls"), f"the control plane of {self.name} is back")
        names = [
            [item["name"] for item in json.loads(self.mosaic(noun, "ls", "-o", "json"))["items"]]
            for noun in ("tenant", "agent")
        ]
        if names != [["default"], ["clerk"]]:
            raise SystemExit(f"the register of {self.name} was not put back: {names}")

    def end(self) -> None:
        for container in self.containers:
            self.podman("rm", "--force", "--volumes", "--time", "5", container, check=False)
        subprocess.run(["ip", "netns", "delete", self.namespace], check=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--store", default="", help="a folder for podman's images and containers")
    parser.add_argument("--own-postgres", action="store_true", help="stand in for the PostgreSQL image")
    parser.add_argument("--site", choices=SITES, action="append", help="only this one")
    options = parser.parse_args()
    in_a_cgroup_of_its_own()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by a signal"))  # so that everything is removed
    podman = Podman(options.store)
    services = YAML(typ="safe").load((ROOT / "compose" / "compose.yaml").read_text())["services"]
    if options.own_postgres:
        for site in SITES:
            services[f"{site}-postgres"] |= {"image": "mosaic-controlplane", "command": ["/bin/sh", "-ec", STAND_IN]}
            settings = services[f"{site}-controlplane"]["environment"]
            settings["MOSAIC_DATABASE_URL"] = settings["MOSAIC_DATABASE_URL"].replace(":5432/mosaic", ":5432/postgres")
    sites = [Site(name, podman, services, secrets.token_hex(12)) for name in options.site or SITES]
    with tempfile.TemporaryDirectory() as folder:
        wrapper = Path(folder) / "compose"
        wrapper.write_text(f'#!/bin/sh\nshift 2\nexec {" ".join(podman.base)} exec -i "$@"\n')
        wrapper.chmod(0o755)
        rows = []
        try:
            for site in sites:
                began = time.monotonic()
                site.start()
                up = time.monotonic() - began
                send, worked = site.work(wrapper), time.monotonic()
                site.put_back()
                rows.append((site.name, up, send, time.monotonic() - worked, time.monotonic() - began))
        except BaseException:
            sys.stderr.write("".join(one.told() for one in sites))
            raise
        finally:
            for site in sites:
                site.end()
    sys.stdout.write("site   containers up   send   backup and restore   all of it (s)\n")
    for name, up, send, back, whole in rows:
        sys.stdout.write(f"{name:6} {up:13.1f} {send:6.1f} {back:20.1f} {whole:11.1f}\n")


if __name__ == "__main__":
    main()
