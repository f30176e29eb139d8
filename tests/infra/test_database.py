"""The database behind Prefect: SQLite for one worker, PostgreSQL for more, copied and put back whole."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import asyncpg
import pytest
from pydantic import SecretStr

from infra.database import backup, database, restore
from infra.environment import free_port
from infra.server.access import StackError
from infra.settings import REPOSITORY, Settings
from infra.stack import Stack
from tests.fixtures.faults.killing import living
from tests.fixtures.limits import AGES_S, wait_until
from tests.fixtures.servers.postgres import postgres, why_no_postgres
from tests.fixtures.servers.prefect_api import ask


def config(tmp_path: Path, url: str | None = None) -> Settings:
    secret = None if url is None else SecretStr(url)
    return Settings(
        state=tmp_path / "state", runs=str(tmp_path / "runs"), prefect_port=free_port(), prefect_api_url=None,
        work_pool="local", database=secret, prefect_auth=None, prefect_server_auth=None,
    )  # fmt: skip


@pytest.fixture(scope="module")
def pg() -> Iterator[str]:
    if (reason := why_no_postgres()) is not None:
        pytest.skip(reason)
    with postgres() as url:
        yield url


def execute(url: str, *statements: str) -> list[tuple[object, ...]]:
    async def run() -> list[tuple[object, ...]]:
        connection = await asyncpg.connect(url.replace("postgresql+asyncpg", "postgresql"))
        try:
            for statement in statements[:-1]:
                await connection.execute(statement)
            return [tuple(row) for row in await connection.fetch(statements[-1])]
        finally:
            await connection.close()

    return asyncio.run(run())


@pytest.mark.parametrize("workers", [2, 3, 12])
def test_several_workers_on_sqlite_are_refused_with_how_it_is_done(tmp_path: Path, workers: int) -> None:
    found = database(config(tmp_path))
    found.require(1)
    with pytest.raises(StackError, match=f"{workers} workers need PostgreSQL.*make up DATABASE=postgresql"):
        found.require(workers)


def test_up_refuses_several_workers_on_sqlite_before_anything_starts(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "infra.stack", "up", "--workers", "3"]
    environment = os.environ | {"INFINITY_STATE": str(tmp_path / "state"), "PREFECT_API_URL": ""}
    ended = subprocess.run(command, env=environment, cwd=REPOSITORY, capture_output=True, text=True, timeout=AGES_S)
    assert ended.returncode == 1
    assert ended.stderr.startswith("error: 3 workers need PostgreSQL")
    assert not (tmp_path / "state" / "stack" / "services.json").exists()


@pytest.mark.parametrize(
    "url",
    ["mysql://u:p@host/db", "postgresql://u:p@host/db", "postgresql+psycopg2://u:p@host/db", "postgresql+asyncpg://host",
     "postgresql+asyncpg:///db", "sqlite+aiosqlite:///file.db", "host:5432/db"],
)  # fmt: skip
def test_another_address_is_refused_without_its_password(tmp_path: Path, url: str) -> None:
    with pytest.raises(StackError, match=r"DATABASE: expected sqlite or postgresql\+asyncpg") as caught:
        database(config(tmp_path, url))
    assert "u:p" not in str(caught.value)


def test_a_database_that_does_not_answer_is_one_sentence_without_a_password(tmp_path: Path) -> None:
    url = f"postgresql+asyncpg://someone:canary-word@127.0.0.1:{free_port()}/prefect"
    with pytest.raises(StackError, match=r"cannot be used .*; start it, correct DATABASE") as caught:
        database(config(tmp_path, url)).require(1)
    assert "canary-word" not in str(caught.value)
    assert "canary-word" not in repr(database(config(tmp_path, url)))


def test_the_address_is_remembered_by_its_owner_only_until_sqlite_is_asked_for(tmp_path: Path) -> None:
    url = "postgresql+asyncpg://someone:word@host:5433/prefect"
    assert database(config(tmp_path, url)).url == url
    assert database(config(tmp_path)).url == url
    assert database(config(tmp_path)).shown == "postgresql+asyncpg://someone@host:5433/prefect"
    memory = tmp_path / "state" / "secrets" / "database"
    assert stat.S_IMODE(memory.stat().st_mode) == 0o600
    assert database(config(tmp_path, "sqlite")).url is None
    assert database(config(tmp_path)).url is None
    assert not memory.exists()


def test_a_backup_of_sqlite_is_whole_while_it_is_written_and_comes_back(tmp_path: Path) -> None:
    given = config(tmp_path)
    file = database(given).file
    with pytest.raises(StackError, match="no server of this stack has run yet"):
        backup(given, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()
    file.parent.mkdir(parents=True)
    with closing(sqlite3.connect(file)) as writer:
        writer.executescript(
            "pragma journal_mode=wal; create table runs (name text); insert into runs values ('first')"
        )
        writer.commit()
        backup(given, tmp_path / "copy")  # the log of changes is not in the file yet
        writer.execute("insert into runs values ('second')")
        writer.commit()
    with pytest.raises(StackError, match="is there already"):
        backup(given, tmp_path / "copy")
    restore(given, tmp_path / "copy")
    with closing(sqlite3.connect(file)) as reader:
        assert reader.execute("select name from runs").fetchall() == [("first",)]
    (tmp_path / "text").write_text("not a backup")
    with pytest.raises(StackError, match="is a backup of PostgreSQL, and the stack's database is SQLite"):
        restore(given, tmp_path / "text")
    with pytest.raises(StackError, match="expected the file of a backup, found none"):
        restore(given, tmp_path / "absent")


def test_a_wrong_password_of_postgresql_is_refused(tmp_path: Path, pg: str) -> None:
    database(config(tmp_path, pg)).require(3)
    user = pg.partition("://")[2].partition(":")[0]
    wrong = pg.replace(pg.partition(f"{user}:")[2].partition("@")[0], "canary-word")
    with pytest.raises(StackError, match="password authentication failed") as caught:
        database(config(tmp_path, wrong)).require(1)
    assert "canary-word" not in str(caught.value)


def test_a_backup_of_postgresql_comes_back(tmp_path: Path, pg: str) -> None:
    given = config(tmp_path, pg)
    execute(pg, "create table kept (name text)", "insert into kept values ('first')", "select 1")
    backup(given, tmp_path / "copy")
    assert stat.S_IMODE((tmp_path / "copy").stat().st_mode) == 0o600
    execute(pg, "insert into kept values ('second')", "select 1")
    restore(given, tmp_path / "copy")
    assert execute(pg, "select name from kept") == [("first",)]
    with pytest.raises(StackError, match="is a backup of PostgreSQL, and the stack's database is SQLite"):
        restore(config(tmp_path / "other"), tmp_path / "copy")
    execute(pg, "drop table kept", "select 1")


@pytest.mark.prefect
@pytest.mark.slow
def test_a_server_on_postgresql_serves_three_workers_and_tells_its_password_to_nobody(
    tmp_path: Path, pg: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its runs and schedules come back from a backup; the password is in no log, file of state or list of processes."""
    if not request.config.getoption("--exhaustive"):
        pytest.skip("minutes; --exhaustive runs it")
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    password = pg.partition("infinity:")[2].partition("@")[0]
    stack = Stack(config(tmp_path, pg))
    try:
        server = stack.server_up(timeout_s=AGES_S)
        monkeypatch.setenv("PREFECT_API_AUTH_STRING", stack.auth() or "")
        workers = stack.worker_up(server, timeout_s=AGES_S, num_workers=3)
        assert len({worker.pid for worker in workers}) == 3
        assert execute(pg, "select count(*) from deployment")[0][0] == len(
            ask(server.api_url, "deployments/filter", {})
        )
        deployment = ask(server.api_url, "deployments/name/evaluate/local", method="GET")["id"]
        runs = [
            ask(server.api_url, f"deployments/{deployment}/create_flow_run", {"parameters": {"run": "demo"}})["id"]
            for _ in range(4)
        ]

        def ended() -> list[str]:
            states = [ask(server.api_url, f"flow_runs/{run}", method="GET")["state"] for run in runs]
            return [state["name"] for state in states if state["type"] in ("COMPLETED", "FAILED", "CRASHED")]

        assert (
            wait_until(lambda: found if len(found := ended()) == 4 else None, "four runs", period_s=1.0)
            == ["Skipped"] * 4
        )
        backup(stack.config, tmp_path / "copy")
        others = [
            each for each in living() if each.number not in {stack.register.services()["server"].pid, os.getpid()}
        ]
        for process in others:
            found = (
                Path(f"/proc/{process.number}/cmdline").read_bytes()
                if Path(f"/proc/{process.number}").exists()
                else b""
            )
            assert password.encode() not in found
        for worker in workers:
            assert password.encode() not in Path(f"/proc/{worker.pid}/environ").read_bytes()
    finally:
        stack.down()
    for path in (tmp_path / "state").rglob("*"):
        if path.is_file() and path.name != "database":
            assert password.encode() not in path.read_bytes(), path
    execute(pg, "drop schema public cascade", "create schema public", "select 1")
    restore(stack.config, tmp_path / "copy")
    again = Stack(config(tmp_path))
    try:
        time.sleep(1.0)
        server = again.server_up(timeout_s=AGES_S)
        assert ask(server.api_url, f"flow_runs/{runs[0]}", method="GET")["state"]["name"] == "Skipped"
        schedules = ask(server.api_url, "deployments/name/evaluate/local", method="GET")["schedules"]
        assert [schedule["slug"] for schedule in schedules] == ["nightly"]
    finally:
        again.down()
