import datetime as dt
import inspect
import re
import tomllib
from pathlib import Path
from types import NoneType
from typing import Any

import pytest
from pydantic import TypeAdapter

import voxdex_client
from api.app import create_app
from indexer.settings import load_settings
from tests.conftest import REPOSITORY
from voxdex_client import AsyncClient, Client, routes
from voxdex_client.bind import AsyncResource, Resource
from voxdex_client.requests import Route, Sent

ROUTES: dict[str, Route[Any, Any]] = {name: value for name, value in vars(routes).items() if isinstance(value, Route)}
NOT_IN_ITS_OWN_DOCUMENT = {("GET", "/v1/openapi.json")}
FOR_BROWSERS = {("POST", "/v1/session"), ("DELETE", "/v1/session")}
"""A client of Python sends its key, and keeps no cookie instead."""


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The service's own description."""
    app = create_app(load_settings(home=tmp_path_factory.mktemp("home")))
    return app.openapi()


@pytest.fixture(params=[name for name in ROUTES if name != "openapi"])  # the document does not describe itself
def route(request: pytest.FixtureRequest, document: dict[str, Any]) -> tuple[Route[Any, Any], dict[str, Any]]:
    """A route of the client, and what the service says of it."""
    route = ROUTES[request.param]
    paths = {_anonymous(path): methods for path, methods in document["paths"].items()}
    return route, paths[_anonymous(route.template)][route.method.lower()]


def _anonymous(path: str) -> str:
    return re.sub(r"\{[^}]*\}", "{}", path)


def test_every_route_of_the_service_is_described_and_no_other(document: dict[str, Any]) -> None:
    served = {(method.upper(), _anonymous(path)) for path, methods in document["paths"].items() for method in methods}
    described = {(route.method, _anonymous(route.template)) for route in ROUTES.values()}
    assert len(described) == len(ROUTES)
    assert described - NOT_IN_ITS_OWN_DOCUMENT == served - FOR_BROWSERS


def test_both_clients_have_a_method_for_every_route_with_the_same_name() -> None:
    methods = {}
    for client, base in ((Client, Resource), (AsyncClient, AsyncResource)):
        bound = dict(_bound("", client))
        for name, kind in _resources(client("http://localhost"), base):
            bound |= dict(_bound(f"{name}.", kind))
        methods[client] = bound
    assert methods[Client] == methods[AsyncClient]
    # Events are read as they come; a method is written for them on each client.
    assert {id(route) for route in methods[Client].values()} | {id(routes.job_events)} == set(map(id, ROUTES.values()))
    for kind in (Client("http://localhost").jobs, AsyncClient("http://localhost").jobs):
        assert callable(kind.events)


def _bound(prefix: str, kind: type) -> list[tuple[str, Any]]:
    return [(prefix + name, value.route) for name, value in vars(kind).items() if hasattr(value, "route")]


def _resources(client: object, base: type) -> list[tuple[str, type]]:
    return [(name, type(value)) for name, value in vars(client).items() if isinstance(value, base)]


def test_a_route_sends_the_parameters_that_the_service_takes_and_no_other(
    route: tuple[Route[Any, Any], dict[str, Any]],
) -> None:
    described, served = route
    sent = _sent(described)
    taken = {place: set() for place in ("path", "query", "header")}
    for parameter in served.get("parameters", []):
        taken[parameter["in"]].add(parameter["name"])
    assert set(sent.query) == taken["query"]
    assert set(sent.path) == set(re.findall(r"\{([^}]*)\}", described.template))
    assert len(sent.path) == len(taken["path"])
    assert described.keyed == ("Idempotency-Key" in taken["header"])


def test_a_route_sends_the_fields_that_the_service_takes_and_no_other(
    route: tuple[Route[Any, Any], dict[str, Any]], document: dict[str, Any]
) -> None:
    described, served = route
    sent = _sent(described)
    content = served.get("requestBody", {}).get("content", {})
    assert (sent.body is not None) == ("multipart/form-data" in content)
    assert (sent.json is not None) == ("application/json" in content)
    if sent.body is not None:
        assert sent.body.content_type.split(";")[0] in content
    if sent.json is not None:
        schema = _resolved(content["application/json"]["schema"], document)
        assert set(sent.json) == set(schema["properties"])


def test_a_route_reads_what_the_service_answers(
    route: tuple[Route[Any, Any], dict[str, Any]], document: dict[str, Any]
) -> None:
    described, served = route
    [answer, *others] = [response for status, response in served["responses"].items() if status.startswith("2")]
    content = answer.get("content", {})
    if described.returns is bytes:
        assert set(content) == {"audio/wav"}
    elif described.returns is str:
        assert set(content) == {"text/plain"}
    elif described.returns is NoneType:
        assert set(content) == {"text/event-stream"}
    else:
        mine = TypeAdapter(described.returns).json_schema(mode="serialization")
        for response in [answer, *others, *(served["responses"][str(status)] for status in described.also)]:
            theirs = response["content"]["application/json"]["schema"]
            assert _shape(mine, mine) == _shape(theirs, document)


def _sent(route: Route[Any, Any]) -> Sent:
    """What a call with every argument sends."""
    arguments = {
        name: _sample(name, str(parameter.annotation))
        for name, parameter in inspect.signature(route.build).parameters.items()
    }
    sent: Sent = route.build(**arguments)
    return sent


def _sample(name: str, annotation: str) -> Any:
    if name in {"audio", "first", "second"}:
        return b"RIFF"
    samples: list[tuple[str, Any]] = [
        ("Sequence", ["read"]),
        ("datetime", dt.datetime(2026, 1, 31, tzinfo=dt.UTC)),
        ("bool", True),
        ("float", 0.5),
        ("int", 1),
    ]
    return next((sample for kind, sample in samples if kind in annotation), "text")


def _resolved(schema: dict[str, Any], document: dict[str, Any]) -> dict[str, Any]:
    found: Any = schema
    while "$ref" in found:
        place: Any = document
        for step in found["$ref"].removeprefix("#/").split("/"):
            place = place[step]
        found = place
    return dict(found)


def _shape(schema: dict[str, Any], document: dict[str, Any]) -> Any:
    """Names, nesting, kinds and nullability of what a schema describes; not its limits and texts."""
    found = _resolved(schema, document)
    if "anyOf" in found:
        kinds = [_shape(one, document) for one in found["anyOf"]]
        rest = [kind for kind in kinds if kind != "null"]
        return {"nullable": rest} if "null" in kinds else rest
    if "properties" in found:
        return {name: _shape(one, document) for name, one in found["properties"].items()}
    if found.get("type") == "array":
        return [_shape(found["items"], document)]
    if found.get("type") == "object":
        values = found.get("additionalProperties")
        return {"*": _shape(values, document)} if isinstance(values, dict) else {"*": "anything"}
    if "enum" in found or "const" in found:
        return sorted(found.get("enum", [found.get("const")]))
    return found["type"]


def test_its_page_lists_every_method() -> None:
    page = (REPOSITORY / "docs" / "python-client.md").read_text(encoding="utf-8")
    listed = {
        (resource.strip("`"), method.strip("`"))
        for resource, methods in re.findall(r"^\| (itself|`\w+`) \| (`.*`) \|$", page, re.MULTILINE)
        for method in methods.split()
    }
    client = Client("http://localhost")
    bound = {("itself", name) for name, _ in _bound("", Client)}
    for resource, kind in _resources(client, Resource):
        bound |= {(resource, name) for name, _ in _bound("", kind)}
    assert listed == bound | {("jobs", "events"), ("jobs", "wait")}


def test_every_module_of_the_client_is_in_its_distribution() -> None:
    folder = Path(voxdex_client.__file__).parent
    assert (folder / "py.typed").is_file()
    project = tomllib.loads((folder.parents[1] / "pyproject.toml").read_text(encoding="utf-8"))
    named = {folder.parent.joinpath(*package.split(".")) for package in project["tool"]["setuptools"]["packages"]}
    assert named == {path.parent for path in folder.rglob("*.py")}
