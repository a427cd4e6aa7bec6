"""Write docs/api-routes.md from the API's own document, so that it cannot say anything else.

python docs/make_api_routes.py
"""

from pathlib import Path
from typing import Any

from api.app import create_app
from indexer.settings import Settings

TARGET = Path(__file__).with_name("api-routes.md")

_HEADER = """\
# Routes of the HTTP API

Generated from the API's OpenAPI document by `make docs-reference`; do not edit. [api.md](api.md) says what the routes
have in common; `/v1/openapi.json` has every parameter, answer and example.

| Route | What it does |
|---|---|
"""


def routes() -> list[tuple[str, str]]:
    """Every method and path with the first sentence about it, in the order of the document."""
    document: dict[str, Any] = create_app(Settings()).openapi()
    return [
        (f"{method.upper()} {path}", str(operation["description"]).strip().partition("\n")[0])
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    ]


def render() -> str:
    """Return the page."""
    return _HEADER + "".join(f"| `{route}` | {meaning} |\n" for route, meaning in routes())


if __name__ == "__main__":
    TARGET.write_text(render(), encoding="utf-8")
