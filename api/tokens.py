"""Bearer tokens of the API: JSON Web Tokens signed with a key of their own, and who is behind one."""

from __future__ import annotations

import threading
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Annotated, Any

import cachetools
import jwt
import structlog
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings
from django.contrib.auth import authenticate
from django.contrib.auth.models import User
from django.http import HttpRequest
from ninja import Router
from ninja.security import HttpBearer
from pydantic import BaseModel, Field

from api.problems import Problem
from api.schemas import PRINTABLE, Body

ALGORITHM = "HS256"
AUDIENCE = "wharf-api"
CLAIMS = ("sub", "joined", "iat", "exp")  # `joined`: microseconds, tells apart accounts that had one id
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
SKEW = timedelta(minutes=5)  # by which the clock of the process that issued a token may differ from this one's
LABEL = b"wharf api tokens"  # another label, another key
KNOWN_SECONDS = 5  # for so long a token is still good that has just expired, or whose user was locked out
TOKEN_TYPE = "Bearer"  # noqa: S105 (the name of a scheme)

router = Router(tags=["token"])


class CustomerRequest(HttpRequest):
    """A request that came with a valid token; `auth` is the id of the customer."""

    auth: int


class Bearer(HttpBearer):
    """Lets in who has a valid token and is still an active user. Cookies count for nothing here."""

    def authenticate(self, request: HttpRequest, token: str) -> int:
        """The customer's id; raises Problem `token_expired` or `invalid_token`."""
        customer_id = _customer_of(token)
        structlog.contextvars.bind_contextvars(user_id=customer_id)
        return customer_id


_known: cachetools.TTLCache[str, int] = cachetools.TTLCache(10_000, KNOWN_SECONDS)
_lock = threading.Lock()


def forget() -> None:
    """Look at every token anew."""
    with _lock:
        _known.clear()


@cachetools.cached(_known, lock=_lock)
def _customer_of(token: str) -> int:
    """Whose token this is. It is remembered for KNOWN_SECONDS, because programs send many requests with one token."""
    try:
        claims = _claims_of(token)
    except jwt.ExpiredSignatureError:
        raise Problem("token_expired", "The token has expired; ask for a new one.") from None
    except jwt.InvalidTokenError:
        raise Problem("invalid_token", "This is not a token of ours.") from None
    customer_id = int(claims["sub"])
    # Whoever should have the same id after a restore has another account, and so has joined at another time.
    if not User.objects.filter(pk=customer_id, is_active=True, date_joined=_joined_at(claims["joined"])).exists():
        raise Problem("invalid_token", "The token's user does not exist any more, or may not sign in.")
    return customer_id


def _joined_at(microseconds: int) -> datetime:
    return EPOCH + microseconds * MICROSECOND


def _claims_of(token: str) -> dict[str, Any]:
    """What the token says; raises jwt.InvalidTokenError if none of the keys has signed it."""
    *earlier, last = _keys()
    for key in earlier:
        with suppress(jwt.InvalidSignatureError):
            return _decode(token, key)
    return _decode(token, last)


def _decode(token: str, key: bytes) -> dict[str, Any]:
    return jwt.decode(
        token, key, algorithms=[ALGORITHM], audience=AUDIENCE, options={"require": [*CLAIMS]}, leeway=SKEW
    )


def _keys() -> list[bytes]:
    """The key that signs, and after it those that have signed before.

    Unless they are given, they are derived from the secret keys: what one of them signs means nothing to the other.
    """
    if settings.API_TOKEN_KEYS:
        return [key.encode() for key in settings.API_TOKEN_KEYS]
    return [_derived(key) for key in (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS)]


@lru_cache(maxsize=16)
def _derived(key: str) -> bytes:
    return HKDF(algorithm=SHA256(), length=64, salt=None, info=LABEL).derive(key.encode())


class Credentials(Body):
    username: Annotated[str, Field(min_length=1, max_length=150, pattern=PRINTABLE)]
    # PBKDF2 does not see zero bytes at the end of a password.
    password: Annotated[str, Field(min_length=1, max_length=1000, pattern=r"^[^\x00]*$")]


class Token(BaseModel):
    """`expires_in` in seconds."""

    access_token: str
    token_type: str
    expires_in: int


def issue(user_id: int, at: datetime) -> str:
    """A token for a user, good for API_TOKEN_SECONDS from `at`."""
    joined = User.objects.filter(pk=user_id).values_list("date_joined", flat=True).first() or EPOCH
    claims = {
        "sub": str(user_id),
        "joined": (joined - EPOCH) // MICROSECOND,
        "aud": AUDIENCE,
        "iat": at,
        "exp": at + timedelta(seconds=settings.API_TOKEN_SECONDS),
    }
    return jwt.encode(claims, _keys()[0], algorithm=ALGORITHM)


@router.post("/token", response=Token, operation_id="create_token")
def create_token(request: HttpRequest, body: Credentials) -> Token:
    """A bearer token for a user's name and password."""
    # Django hashes a password for an unknown name too, so the time of the answer does not tell who exists.
    user = authenticate(request, username=body.username, password=body.password)
    if user is None:
        raise Problem("invalid_credentials", "The name or the password is wrong.")
    token = issue(user.pk, datetime.now(UTC))
    return Token(access_token=token, token_type=TOKEN_TYPE, expires_in=settings.API_TOKEN_SECONDS)
