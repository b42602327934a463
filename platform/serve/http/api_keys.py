"""API keys: made once and shown once, kept as hashes in a file of JSON lines, and checked in microseconds.

A secret is 256 random bits, so nobody finds it by trying, however quick the hash is: SHA-256 does, and costs a server
nothing. Files of before hold scrypt hashes, which are made for passwords; they are read as well.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import logging
import secrets
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Self
from weakref import WeakValueDictionary

from pydantic import Field, ValidationError, model_validator

from maskray.model.config import Config
from maskray.platform.files.atomic import replaced_file
from maskray.platform.job.config import NAME, first_mistake

PREFIX = "maskray"
SECRET_BYTES = 32
SHA256_BYTES = 32
COST = {"n": 2**14, "r": 8, "p": 1}  # of scrypt: 16 MiB and some 40 ms for a guess
MOST_REMEMBERED = 1024
LOOK_AGAIN_SECONDS = 1.0

logger = logging.getLogger(__name__)


class StoredKey(Config):
    """One line of a key file; the key itself cannot be had from it."""

    name: str
    created: str = Field(description="ISO 8601 in UTC.")
    sha256: str = Field("", description="Of the secret, in hexadecimal.")
    salt: str = Field("", description="Of a key of before: in base64, as the hash.")
    scrypt: str = ""

    @model_validator(mode="after")
    def _hashes(self) -> Self:
        if bool(self.sha256) == bool(self.scrypt):
            raise ValueError("it has either sha256 or scrypt")
        if len(bytes.fromhex(self.sha256)) not in (0, SHA256_BYTES):
            raise ValueError("sha256 has another length")
        base64.b64decode(self.salt, validate=True), base64.b64decode(self.scrypt, validate=True)
        return self


def add_key(path: str | Path, name: str) -> str:
    """Make a key, write its hash to a file, which is made if it is missing, and return the key.

    Raises ValueError where the name is no plain one or is taken, or the file is no key file.
    """
    if not NAME.fullmatch(name) or "." in name:
        raise ValueError(f"{name!r} is not a plain name for a key: letters, digits, _ - only, not first _ or -")
    keys = read_keys(path) if Path(path).exists() else []
    if any(key.name == name for key in keys):
        raise ValueError(f"{path}: there is a key named {name} already")
    secret = secrets.token_urlsafe(SECRET_BYTES)
    created = datetime.now(UTC).isoformat(timespec="seconds")
    stored = StoredKey(name=name, created=created, sha256=_sha256(secret).hex())
    _write_keys(path, [*keys, stored])
    return f"{PREFIX}.{name}.{secret}"


def remove_key(path: str | Path, name: str) -> None:
    """Take a key out of a file; a running server refuses it a second later. ValueError where it is not there."""
    keys = read_keys(path)
    if all(key.name != name for key in keys):
        raise ValueError(f"{path}: there is no key named {name}")
    _write_keys(path, [key for key in keys if key.name != name])


def read_keys(path: str | Path) -> list[StoredKey]:
    """The keys of a file; ValueError naming the line that is none."""
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not readable as a key file: {getattr(error, 'strerror', None) or error}") from None
    keys = []
    for number, line in enumerate(lines, start=1):
        try:
            keys.append(StoredKey.model_validate_json(line))
        except ValidationError as error:
            raise ValueError(f"{path}: line {number} is not a stored key: {first_mistake(error)}") from None
    return keys


class KeyRing:
    """The keys of a file, read again when it changes, and who they belong to.

    An unknown name takes as long as a known one with a wrong secret. Where the file has keys of before, whatever no
    SHA-256 belongs to costs one scrypt, in a thread of its own and one at a time for each client, so that guesses
    delay nobody else. Such a key is known after that by an HMAC under a secret of this process; nothing in memory is
    the key.
    """

    def __init__(self, path: str | Path) -> None:
        """Raises ValueError as read_keys does."""
        self._path = Path(path)
        self._secret = secrets.token_bytes(32)
        self._hashing = ThreadPoolExecutor(1, "keys")
        self._clients: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._hashes: dict[str, bytes] = {}
        self._old: dict[str, StoredKey] = {}
        self._known: dict[bytes, str] = {}
        self._wrong: set[bytes] = set()
        self._refused_for = ""
        self._read_at = (0, 0)
        self._look_again = 0.0
        self._read()

    async def find(self, key: str, client: str = "") -> str | None:
        """The name of a key that is valid, else none; `client` is the address that it came from."""
        if time.monotonic() >= self._look_again:
            await asyncio.to_thread(self._refresh)
        prefix, _, rest = key.partition(".")
        name, _, secret = rest.partition(".")
        stored = self._hashes.get(name, bytes(SHA256_BYTES))  # of zeros: no secret has it that anybody could find
        same = hmac.compare_digest(_sha256(secret), stored)
        if same and prefix == PREFIX:
            return name
        if not self._old:
            return None
        digest = hmac.digest(self._secret, key.encode("utf-8", "surrogateescape"), "sha256")
        if digest in self._known:  # of digests under our secret, so the time of the look-up tells nothing of a key
            return self._known[digest]
        if digest in self._wrong:
            return None
        async with self._clients.setdefault(client, asyncio.Lock()):
            old = name if prefix == PREFIX else ""
            return await asyncio.get_running_loop().run_in_executor(self._hashing, self._check, digest, old, secret)

    def _check(self, digest: bytes, name: str, secret: str) -> str | None:
        """As find() for a key of before, in the one thread that hashes: one that comes many times is hashed once."""
        known, wrong = self._known, self._wrong  # before the keys: those may be read anew meanwhile, and these then too
        stored = self._old.get(name)
        if digest in known or digest in wrong:
            return known.get(digest)
        hashed = _scrypt(secret, base64.b64decode(stored.salt) if stored else bytes(16))
        if hmac.compare_digest(hashed, base64.b64decode(stored.scrypt) if stored else bytes(len(hashed))):
            known[digest] = name
            return name
        if len(wrong) >= MOST_REMEMBERED:  # these alone: whoever guesses makes no good key unknown
            wrong.clear()
        wrong.add(digest)
        return None

    def _refresh(self) -> None:
        """Read a file that was changed; one that is damaged or gone lets nobody in, rather than those of before."""
        self._look_again = time.monotonic() + LOOK_AGAIN_SECONDS
        try:
            if self._stamp() == self._read_at:
                return
            self._read()
        except (OSError, ValueError) as error:
            if str(error) != self._refused_for:  # once, not every second
                logger.error("nobody is let in, the key file cannot be read: %s", error)
            self._refused_for = str(error)
            self._hashes, self._old, self._known, self._wrong, self._read_at = {}, {}, {}, set(), (0, 0)

    def _read(self) -> None:
        stamp = self._stamp() if self._path.exists() else (0, 0)
        keys = read_keys(self._path)
        self._read_at = stamp
        self._hashes = {key.name: bytes.fromhex(key.sha256) for key in keys if key.sha256}
        self._old = {key.name: key for key in keys if key.scrypt}
        self._known, self._wrong, self._refused_for = {}, set(), ""
        self._look_again = time.monotonic() + LOOK_AGAIN_SECONDS

    def _stamp(self) -> tuple[int, int]:
        status = self._path.stat()
        return status.st_mtime_ns, status.st_ino


def _write_keys(path: str | Path, keys: list[StoredKey]) -> None:
    """Write the file, for the owner alone."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replaced_file(path, mode=0o600) as temporary:
        temporary.write_text(
            "".join(json.dumps(key.model_dump(exclude_defaults=True)) + "\n" for key in keys), encoding="utf-8"
        )


def _sha256(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).digest()


def _scrypt(secret: str, salt: bytes) -> bytes:
    return hashlib.scrypt(secret.encode("utf-8", "surrogateescape"), salt=salt, **COST)
