"""Keys to the service: made, listed, revoked."""

from typing import Annotated

from fastapi import APIRouter, Path
from starlette.responses import Response

from api.approach import is_loopback
from api.idempotency import Answer, Idempotent
from api.openapi import problems
from api.pagination import after_of, page_of
from api.runtime import Parts
from api.schemas.common import PAGE_ROWS, Cursor, Limit, Page, Text
from api.schemas.keys import CreatedKey, Key, KeyRequest
from api.security import Admin
from indexer.db.keys import KeyRow

router = APIRouter(prefix="/keys", tags=["keys"])


_PublicId = Annotated[Text, Path(description="The middle of the key.", examples=["4f1d0c9be27a3b58"])]


@router.post("", status_code=201, response_model=CreatedKey, responses=problems(404, 409, 413))
def create_key(body: KeyRequest, principal: Admin, parts: Parts, once: Idempotent) -> Response:
    """Make a key; the answer shows it this once. Only a key that has `embeddings` gives it to another."""
    if "embeddings" in body.scopes and not (principal.key is None and is_loopback(parts.settings.api.host)):
        principal.require("embeddings")

    def work() -> Answer:
        made = parts.keys.create(
            scopes=body.scopes, name=body.name, gallery=body.gallery, rate_limit_per_minute=body.rate_limit_per_minute
        )
        view = CreatedKey(**_view(made.row).model_dump(), key=made.secret)
        return Answer(view, secret=True)

    return once(principal, body, work)


@router.get("", responses=problems())
def list_keys(principal: Admin, parts: Parts, cursor: Cursor = None, limit: Limit = PAGE_ROWS) -> Page[Key]:
    """List keys in the order they were made, the revoked ones too."""
    return page_of(parts.keys.list(after=after_of(cursor, "keys"), limit=limit + 1), limit, _view, "keys")


@router.delete("/{public_id}", responses=problems(404))
def revoke_key(public_id: _PublicId, principal: Admin, parts: Parts) -> Key:
    """Make a key worthless at once."""
    return _view(parts.keys.revoke(public_id))


def _view(row: KeyRow) -> Key:
    return Key.model_validate(
        {
            "public_id": row.public_id,
            "name": row.name,
            "scopes": list(row.scopes),
            "gallery": row.gallery,
            "rate_limit_per_minute": row.rate_limit_per_minute,
            "created_at": row.created_at,
            "last_used_at": row.last_used_at,
            "revoked_at": row.revoked_at,
        }
    )
