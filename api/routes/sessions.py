"""Who asks; and browsers, which sign in with a key once and hold a cookie instead of it from then on."""

from importlib.metadata import version
from typing import Annotated, Any

from fastapi import APIRouter, Cookie, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from api.approach import Approach, given_key
from api.keys import SCOPES
from api.openapi import problems
from api.runtime import Parts
from api.schemas.sessions import Session, SignIn
from api.security import SESSION_COOKIE, Principal
from indexer.errors import Unauthenticated

router = APIRouter(prefix="/session", tags=["sessions"])

HeldCookie = Annotated[str | None, Cookie(alias=SESSION_COOKIE, include_in_schema=False)]


@router.get("", responses=problems())
async def show_session(request: Request, parts: Parts, cookie: HeldCookie = None) -> Session:
    """Tell who asks and what they may; the one route below /v1 that answers without a key wherever it is asked."""
    try:
        principal = await run_in_threadpool(parts.gate.admit, given_key(request), Approach.of(request), session=cookie)
    except Unauthenticated:
        return _view(None)
    return _view(principal)


@router.post("", response_model=Session, responses=problems(413))
def sign_in(request: Request, body: SignIn, parts: Parts) -> Response:
    """Sign a browser in with a key: the answer sets a cookie that no script can read and no other site can use.

    It lasts `VOXDEX_API__SESSION_HOURS`, and no longer than the key is in force. This needs the header
    `X-Voxdex-Request`, as does whatever the cookie is to change later.
    """
    address = request.client.host if request.client else "unknown"
    principal, token = parts.gate.sign_in(body.key, Approach.of(request), address=address)
    answer = _answer(_view(principal))
    most_s = round(parts.settings.api.session_hours * 3600)
    answer.set_cookie(SESSION_COOKIE, token, max_age=most_s, **_place(request))
    return answer


@router.delete("", response_model=Session, responses=problems())
def sign_out(request: Request, parts: Parts, cookie: HeldCookie = None) -> Response:
    """Sign a browser out: its cookie is worth nothing any more, wherever it may have got to."""
    parts.gate.sign_out(cookie, Approach.of(request))
    answer = _answer(_view(None))
    answer.delete_cookie(SESSION_COOKIE, **_place(request))
    return answer


def _place(request: Request) -> dict[str, Any]:
    """Where the cookie counts; over TLS only where the browser came so, which behind a proxy only `Origin` tells."""
    secure = request.url.scheme == "https" or request.headers.get("origin", "").startswith("https://")
    return {"path": "/", "secure": secure, "httponly": True, "samesite": "strict"}


def _answer(view: Session) -> Response:
    return Response(view.model_dump_json(), media_type="application/json")


def _view(principal: Principal | None) -> Session:
    return Session(
        state="signed_out" if principal is None else "open" if principal.key is None else "signed_in",
        key=principal.key if principal else None,
        name=principal.name if principal else None,
        scopes=[scope for scope in SCOPES if principal is not None and principal.may(scope)],
        gallery=principal.gallery if principal else None,
        expires_at=principal.expires_at if principal else None,
        version=version("voxdex"),
    )
