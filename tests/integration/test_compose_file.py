"""The files that deploy the service: what Compose makes of them, and what they must hold whoever reads them."""

import itertools
import json
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml

from api.cli.main import app
from indexer.settings import Settings

REPOSITORY = Path(__file__).parents[2]
FILLED = {"POSTGRES_PASSWORD": "p4ss", "REDIS_PASSWORD": "w0rd", "ARCHIVE_DIR": "/srv/audio"}
SECRETS = ("POSTGRES_PASSWORD", "REDIS_PASSWORD")
OURS = {"api", "migrate", "beat", "worker-cpu", "worker-gpu", "worker-probes"}
VARIABLE = re.compile(r"\$\$|\$\{(?P<name>[A-Z_]+)(?:(?P<kind>:[-?])(?P<rest>(?:[^{}])*))?\}")


class Missing(Exception):
    """A variable without a default is not set."""


def interpolated(text: str, variables: Mapping[str, str]) -> str:
    """Fill in what Compose would: `${NAME:-default}` and `${NAME:?message}`; any other form is refused."""

    def fill(match: re.Match[str]) -> str:
        if match[0] == "$$":
            return "$"
        value = variables.get(match["name"], "")
        if match["kind"] is None:
            raise AssertionError(f"{match[0]} is silently empty where it is not set: state a default or :?")
        if not value and match["kind"] == ":?":
            raise Missing(match["name"])
        return value or match["rest"]

    left = VARIABLE.sub("", text)
    assert "$" not in left, f"a dollar that is no variable: {left[left.index('$') - 20 :][:60]!r}"
    return VARIABLE.sub(fill, text)


def example_variables() -> dict[str, str]:
    lines = (REPOSITORY / ".env.example").read_text(encoding="utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


@cache
def document(**changed: str) -> Any:
    """The Compose file as Compose sees it: anchors resolved, then every text interpolated."""
    variables = {**example_variables(), **FILLED, **changed}

    def filled(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: filled(part) for name, part in value.items()}
        if isinstance(value, list):
            return [filled(part) for part in value]
        return interpolated(value, variables) if isinstance(value, str) else value

    return filled(yaml.safe_load((REPOSITORY / "docker-compose.yml").read_text(encoding="utf-8")))


def services() -> dict[str, Any]:
    found: dict[str, Any] = document()["services"]
    return found


@cache
def compose() -> tuple[str, ...] | None:
    """Compose version 2 or newer, however it is installed here."""
    given = os.environ.get("VOXDEX_TEST_COMPOSE")
    for command in ([given] if given else ["docker", "compose"], ["docker-compose"]):
        if shutil.which(command[0]) is None:
            continue
        answer = subprocess.run([*command, "version", "--short"], capture_output=True, text=True, timeout=60)
        major = answer.stdout.strip().lstrip("v").partition(".")[0]
        if answer.returncode == 0 and major.isdigit() and int(major) >= 2:
            return tuple(command)
    return None


def compose_config(folder: Path, variables: Mapping[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = compose()
    if command is None:
        pytest.skip("no Docker Compose here: the other tests of this file read the file themselves")
    environment = folder / "env"
    environment.write_text("".join(f"{name}={value}\n" for name, value in variables.items()), encoding="utf-8")
    return subprocess.run(
        [*command, "--env-file", str(environment), "--file", str(REPOSITORY / "docker-compose.yml"), *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        env={"PATH": os.environ.get("PATH", os.defpath), "HOME": str(folder)},
    )


def test_compose_itself_accepts_the_file_with_every_profile(tmp_path: Path) -> None:
    profiles = [word for name in ("cpu", "gpu", "probes") for word in ("--profile", name)]
    done = compose_config(tmp_path, {**example_variables(), **FILLED}, *profiles, "config", "--format", "json")
    assert (done.returncode, done.stderr) == (0, "")
    parsed = json.loads(done.stdout)
    assert set(parsed["services"]) == OURS | {"postgres", "redis"}
    for name, service in parsed["services"].items():
        ours = services()[name]
        assert service["image"] == ours["image"]
        assert service.get("command") == [word.replace("$", "$$") for word in ours["command"]], name
        assert service.get("environment", {}) == {k: str(v) for k, v in ours.get("environment", {}).items()}
        assert set(service.get("depends_on", {})) == set(ours.get("depends_on", {}))


@pytest.mark.parametrize("name", FILLED)
def test_compose_itself_refuses_a_missing_variable_by_name(tmp_path: Path, name: str) -> None:
    done = compose_config(tmp_path, {**example_variables(), **FILLED, name: ""}, "config", "--quiet")
    assert done.returncode != 0
    assert f"{name} is missing a value: set it in .env" in done.stderr


@pytest.mark.parametrize("name", FILLED)
def test_nothing_starts_while_a_secret_or_the_archive_is_not_set(name: str) -> None:
    assert example_variables()[name] == ""
    with pytest.raises(Missing, match=name):
        document(**{name: ""})


def test_no_password_is_written_down() -> None:
    text = (REPOSITORY / "docker-compose.yml").read_text(encoding="utf-8")
    for secret in SECRETS:
        uses = re.findall(rf"\$\{{{secret}[^}}]*\}}", text)
        assert uses
        assert set(uses) == {f"${{{secret}:?set it in .env}}"}
    assert example_variables()["VOXDEX_WEBHOOKS__SECRET"] == ""
    for name, service in services().items():
        words = " ".join([*service.get("command", []), *flat(service.get("healthcheck", {}))])
        assert not any(value in words for value in (FILLED[secret] for secret in SECRETS)), name


def test_every_variable_of_the_file_is_explained_and_used() -> None:
    text = (REPOSITORY / "docker-compose.yml").read_text(encoding="utf-8")
    used = {match["name"] for match in VARIABLE.finditer(text) if match["name"]}
    read_by_compose = {"COMPOSE_PROFILES"}
    assert set(example_variables()) - read_by_compose == used
    lines = (REPOSITORY / ".env.example").read_text(encoding="utf-8").splitlines()
    for before, line in itertools.pairwise(lines):
        assert not (line and not line.startswith("#") and before == ""), f"{line}: not explained"


def test_every_command_of_the_image_is_a_command_of_voxdex_with_its_options() -> None:
    for name in OURS:
        command: Any = typer.main.get_command(app)
        words = list(services()[name]["command"])
        while words and words[0] in getattr(command, "commands", {}):
            command = command.commands[words.pop(0)]
        assert not hasattr(command, "commands"), f"{name}: {services()[name]['command']}"
        command.make_context(name, words)
    assert (services()["migrate"]["command"], services()["migrate"]["restart"]) == (["db", "upgrade"], "no")


def test_every_setting_that_is_passed_exists() -> None:
    for name in OURS:
        for variable in services()[name]["environment"]:
            field: Any = Settings()
            for part in variable.removeprefix("VOXDEX_").lower().split("__"):
                assert hasattr(field, part), f"{name}: {variable}"
                field = getattr(field, part)


def test_the_settings_of_the_containers_are_valid(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in OURS:
        with monkeypatch.context() as context:
            for variable, value in services()[name]["environment"].items():
                context.setenv(variable, str(value))
            settings = Settings()
        assert settings.database_url == "postgresql+psycopg://voxdex:p4ss@postgres:5432/voxdex"
        assert settings.broker.url is not None
        assert settings.broker.url.get_secret_value() == "redis://:w0rd@redis:6379/0"
        assert settings.jobs.sources == ("/archive",)


def test_what_runs_for_long_is_watched_limited_and_restarted() -> None:
    for name, service in services().items():
        limits = service["deploy"]["resources"]["limits"]
        assert set(limits) == {"cpus", "memory"}, name
        assert service["restart"] == ("no" if name == "migrate" else "unless-stopped")
        if name == "migrate":
            continue
        assert service["healthcheck"].get("test"), f"{name} has no health check"
        assert seconds(service["stop_grace_period"]) >= 10, name
    assert services()["beat"]["deploy"]["replicas"] == 1, "two of them would sweep twice"
    devices = services()["worker-gpu"]["deploy"]["resources"]["reservations"]["devices"]
    assert [device["capabilities"] for device in devices] == [["gpu"]]


def test_no_container_is_root_or_may_become_it() -> None:
    for name, service in services().items():
        assert service["user"] in {"10001:10001", "postgres", "redis"}, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["read_only"] is True, name


def test_only_the_api_is_published_and_only_on_loopback() -> None:
    assert {name for name, service in services().items() if "ports" in service} == {"api"}
    assert services()["api"]["ports"] == ["127.0.0.1:8080:8080"]
    assert document()["networks"]["backend"] == {"internal": True}
    for name in ("postgres", "redis"):
        assert services()[name]["networks"] == ["backend"]


def test_everything_waits_for_the_migration_and_the_servers() -> None:
    for name in OURS - {"migrate"}:
        waits = {other: how["condition"] for other, how in services()[name]["depends_on"].items()}
        assert waits == {
            "migrate": "service_completed_successfully",
            "postgres": "service_healthy",
            "redis": "service_healthy",
        }, name


def test_volumes_are_declared_and_the_archive_is_read_only() -> None:
    declared = set(document()["volumes"])
    used = set()
    for name, service in services().items():
        for volume in service.get("volumes", []):
            if isinstance(volume, str):
                source = volume.partition(":")[0]
                assert source in declared, f"{name}: {volume}"
                used.add(source)
            elif volume["type"] == "bind":
                assert (volume["target"], volume["read_only"]) == ("/archive", True), name
    assert used == declared == {"postgres", "home", "media", "weights"}


def test_images_are_pinned_to_a_version() -> None:
    for name, service in services().items():
        if name not in OURS:
            assert re.fullmatch(r"[a-z]+:\d+(\.\d+)?-[a-z]+", service["image"]), service["image"]
    assert int(services()["postgres"]["image"].partition(":")[2].partition("-")[0]) >= 16
    assert int(services()["redis"]["image"].partition(":")[2].partition(".")[0]) >= 7
    assert not any(line.endswith(":latest") for line in dockerfile())


def test_the_image_has_two_stages_a_numbered_user_and_no_compiler() -> None:
    lines = dockerfile()
    stages = [line for line in lines if line.startswith("FROM ")]
    assert stages == ["FROM ${PYTHON} AS build", "FROM ${PYTHON} AS final"]
    assert any(re.fullmatch(r"ARG PYTHON=python:3\.\d+-slim-[a-z]+", line) for line in lines)
    final = lines[lines.index(stages[1]) :]
    assert "USER 10001:10001" in final
    assert not any(re.search(r"apt-get|\bpip\b|\buv\b|gcc|build-essential", line) for line in final)
    assert 'ENTRYPOINT ["voxdex"]' in final
    assert any(line.startswith("HEALTHCHECK ") for line in final)
    installs = [line for line in lines if " install " in line and "/opt/installer" in line]
    assert installs
    assert all("--require-hashes" in line or "--no-deps" in line for line in installs)


def test_what_the_image_is_built_from_is_let_in_and_packaged() -> None:
    ignore = (REPOSITORY / ".dockerignore").read_text(encoding="utf-8").splitlines()
    let_in = {line[1:] for line in ignore if line.startswith("!")}
    copied = set()
    for line in dockerfile():
        if line.startswith("COPY ") and "--from" not in line:
            copied.update(line.split()[1:-1])
    assert ignore[1] == "*"
    assert copied == let_in
    assert all((REPOSITORY / name).exists() for name in copied)


def dockerfile() -> list[str]:
    """Instructions, one a line."""
    text = (REPOSITORY / "Dockerfile").read_text(encoding="utf-8")
    code = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    return [" ".join(line.split()) for line in code.replace("\\\n", " ").splitlines() if line.strip()]


def flat(value: Any) -> Iterator[str]:
    """Every word in a tree."""
    if isinstance(value, dict):
        for part in value.values():
            yield from flat(part)
    elif isinstance(value, list):
        for part in value:
            yield from flat(part)
    else:
        yield from shlex.split(str(value), posix=False)


def seconds(duration: str) -> float:
    number, unit = re.fullmatch(r"(\d+)([sm])", duration).groups()  # type: ignore[union-attr]
    return float(number) * {"s": 1, "m": 60}[unit]
