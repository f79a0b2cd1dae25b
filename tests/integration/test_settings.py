"""Every program ends with one line, and no traceback, when a setting or the data folder is not what it must be."""

from __future__ import annotations

import os
import resource
import secrets
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from config import secret_key
from lab.harness import ROOT, read_dotenv

pytestmark = pytest.mark.once

MANAGE = [sys.executable, "manage.py"]
PROGRAMS = {
    "check": [*MANAGE, "check"],
    "embedded": [*MANAGE, "run", "all", "--no-seed"],
    "relay": [*MANAGE, "run", "relay"],
    "worker": [*MANAGE, "run", "worker"],
    "beat": [*MANAGE, "run", "beat"],
    "web": [*MANAGE, "run", "web"],
    "stack": [sys.executable, "-m", "lab", "stack"],
}


def ended(program: list[str], *, file_bytes: int | None = None, **variables: str) -> tuple[int, str]:
    """The exit code and what was written to standard error; with `file_bytes` files cannot grow beyond that."""
    named = {
        "PATH": os.environ["PATH"],
        "HOME": os.environ.get("HOME", "/"),
        "PROFILE": "embedded",
        "PYTHONDONTWRITEBYTECODE": "1",  # it would be cut, too
        **variables,
    }

    def limit() -> None:
        if file_bytes is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, file_bytes))

    done = subprocess.run(program, cwd=ROOT, env=named, preexec_fn=limit, capture_output=True, text=True, timeout=60)
    return done.returncode, done.stderr


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """The project in another folder, where it may have a `.env` of its own."""
    for found in ROOT.iterdir():
        if found.is_dir() and not found.name.startswith("."):
            (tmp_path / found.name).symlink_to(found)
    (tmp_path / "config").unlink()  # the settings look for `.env` beside it
    shutil.copytree(ROOT / "config", tmp_path / "config")
    shutil.copy(ROOT / "manage.py", tmp_path)
    return tmp_path


def test_command_line_comes_before_environment_before_dotenv_before_default(elsewhere: Path) -> None:
    def port(*options: str, **variables: str) -> str:
        # No machine has this address (RFC 5737), so the program ends with the port that it would have had.
        command = [sys.executable, str(elsewhere / "manage.py"), "run", "all", "--host=192.0.2.1", *options]
        _, said = ended(command, DEMO_DIR=str(elsewhere / "data"), **variables)
        assert "Cannot listen on 192.0.2.1:" in said, said
        return said.partition("192.0.2.1:")[2].partition(":")[0]

    assert port() == "8000"
    (elsewhere / ".env").write_text("PORT=8101\n")
    assert port() == "8101"
    assert port(PORT="8102") == "8102"
    assert port("--port=8103", PORT="8102") == "8103"


@pytest.mark.parametrize("name", PROGRAMS)
def test_program_with_a_setting_that_cannot_be_ends_with_one_line(name: str, tmp_path: Path) -> None:
    code, said = ended(PROGRAMS[name], ORDER_PAYMENT_TIMEOUT="0", DEMO_DIR=str(tmp_path))
    assert code != 0
    assert "Traceback" not in said
    assert said.count("ORDER_PAYMENT_TIMEOUT is '0'; it can be a whole number from 1 to 2592000.") == 1


def test_two_urls_of_one_database_are_refused() -> None:
    urls = "postgres://db/one,postgres://db/two,postgres://db:5432/one"
    code, said = ended(
        PROGRAMS["check"],
        PROFILE="services",
        DATABASE_URL="postgres://db/wharf",
        SECRET_KEY=secrets.token_urlsafe(50),
        ORDER_SHARD_URLS=urls,
    )
    assert (code, said) == (1, "orders_0 and orders_2 are one database, 'one'; their URLs can only name two.\n")


SERVICES = {"PROFILE": "services", "DATABASE_URL": "postgres://db/wharf"}


@pytest.mark.parametrize("name", ["check", "relay", "worker", "beat", "web"])
def test_every_program_refuses_a_key_that_anybody_can_guess(name: str) -> None:
    code, said = ended(PROGRAMS[name], **SERVICES, SECRET_KEY="a")
    assert code != 0
    assert "Traceback" not in said
    assert said.count("SECRET_KEY has 1 characters") == 1
    assert "import secrets; print(secrets.token_urlsafe(50))" in said


def test_known_key_is_refused_unless_this_is_for_development(tmp_path: Path) -> None:
    known = read_dotenv(ROOT / ".env.example")["SECRET_KEY"]
    for profile in (SERVICES, {"DEMO_DIR": str(tmp_path)}):
        code, said = ended(PROGRAMS["check"], **profile, SECRET_KEY=known)
        assert (code, said.count("\n")) == (1, 1)
        assert said.startswith("SECRET_KEY has the word 'insecure' in it")
        assert known not in said
        assert ended(PROGRAMS["check"], **profile, SECRET_KEY=known, DEBUG="1")[0] == 0


@pytest.mark.parametrize("name", ["SECRET_KEY_FALLBACKS", "API_TOKEN_KEYS"])
def test_further_keys_are_looked_at_too(name: str) -> None:
    keys = {"SECRET_KEY": secrets.token_urlsafe(50)}
    code, said = ended(PROGRAMS["check"], **SERVICES, **keys, **{name: f"{secrets.token_urlsafe(50)},{'a' * 60}"})
    assert (code, said.count("\n")) == (1, 1)
    assert said.startswith(f"{name} repeats itself")


def test_tokens_are_not_signed_with_the_secret_key() -> None:
    key = secrets.token_urlsafe(50)
    code, said = ended(PROGRAMS["check"], **SERVICES, SECRET_KEY=key, API_TOKEN_KEYS=key)
    assert code == 1
    assert said == "API_TOKEN_KEYS has SECRET_KEY among its keys; it can be other keys, or none.\n"


@pytest.mark.parametrize("program", ["check", "embedded"])
def test_data_folder_that_cannot_be_made_is_said_in_one_line(program: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    folder = tmp_path / "file" / "data"
    code, said = ended(PROGRAMS[program], DEMO_DIR=str(folder))
    assert (code, said.count("\n")) == (1, 1)
    assert f"The folder {folder} cannot be made: Not a directory." in said


@pytest.mark.parametrize("file_bytes", [0, 20, 4096])
def test_full_disk_is_said_in_one_line_and_the_next_start_is_whole(file_bytes: int, tmp_path: Path) -> None:
    code, said = ended(PROGRAMS["embedded"], file_bytes=file_bytes, DEMO_DIR=str(tmp_path))
    assert code == 1
    assert "Traceback" not in said
    assert str(tmp_path) in said
    code, said = ended(PROGRAMS["check"], DEMO_DIR=str(tmp_path))
    assert (code, said) == (0, "")


def test_database_file_that_cannot_be_used_is_said_in_one_line(tmp_path: Path) -> None:
    file = tmp_path / "default.sqlite3"
    file.mkdir()
    code, said = ended([*MANAGE, "migrate_all"], DEMO_DIR=str(tmp_path))
    where = f"The data is kept in {tmp_path}.\n"
    assert (code, said) == (1, f"A database cannot be used: unable to open database file. {where}")
    file.rmdir()
    file.write_bytes(b"no database" * 1000)
    code, said = ended([*MANAGE, "migrate_all"], DEMO_DIR=str(tmp_path))
    assert (code, said) == (1, f"A database cannot be used: file is not a database. {where}")


def test_secret_key_is_made_once(tmp_path: Path) -> None:
    file = tmp_path / "secret_key"
    key = secret_key.kept_in(file)
    assert secret_key.kept_in(file) == key
    assert len(key) >= secret_key.CHARACTERS
    assert file.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("content", [b"", b" \n"])
def test_empty_secret_key_is_made_anew_and_said(
    content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "secret_key"
    file.write_bytes(content)
    key = secret_key.kept_in(file)
    assert file.read_text() == key
    assert f"{file} is empty" in capsys.readouterr().err


@pytest.mark.parametrize("content", [b"short", b"a" * 60, b"\0" * 60, bytes(range(150, 210)), b"two lines of\n" * 6])
def test_secret_key_that_is_none_is_refused_and_stays(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "secret_key"
    file.write_bytes(content)
    with pytest.raises(SystemExit, match="is not a secret key"):
        secret_key.kept_in(file)
    assert file.read_bytes() == content


def test_processes_that_start_together_use_one_key(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.touch()
    program = f"import pathlib, config.secret_key; print(config.secret_key.kept_in(pathlib.Path({str(file)!r})))"
    together = [
        subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        for _ in range(4)
    ]
    assert len({process.communicate()[0] for process in together}) == 1
