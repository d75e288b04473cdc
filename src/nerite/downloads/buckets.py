# SPDX-License-Identifier: Apache-2.0
"""The objects below a prefix of a bucket - Amazon's and those like it, Google's, Azure's.

obstore speaks to them. A prefix ends where a name does: `s3://b/model` means the object `model` or
what lies below `model/`, never `model2`. Objects come in pieces, each asked for with the tag of the
listing: what is changed meanwhile is noticed, and a piece that fails is all there is to repeat.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, cast

from nerite.downloads.bucket_options import BucketOptions, bucket_options
from nerite.downloads.names import safe_relative
from nerite.downloads.sources import Source
from nerite.downloads.staging import Staging
from nerite.downloads.transfer import Courier, Interrupted, Opened, transfer
from nerite.errors import InvalidArgument, MissingExtra, NotFound, Unavailable

if TYPE_CHECKING:
    from obstore.store import ObjectStore

PIECE = 16 << 20
#: Files that are fetched at the same time, as KServe's initializer does.
_AT_ONCE = 4
_HINTS = {
    "s3": "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or awsAnonymousCredential=true for a "
    "public bucket",
    "gs": "set GOOGLE_APPLICATION_CREDENTIALS to the file of a service account",
    "azure": "set AZURE_STORAGE_ACCESS_KEY, or AZURE_CLIENT_ID, AZURE_TENANT_ID and "
    "AZURE_CLIENT_SECRET, or add a shared access signature to the URL",
}


@dataclass(frozen=True, slots=True)
class Filters:
    """Which of the files below a prefix are wanted, by patterns for their paths."""

    allow: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()

    def wants(self, path: str) -> bool:
        """Whether a file is wanted."""
        allowed = not self.allow or any(fnmatch.fnmatchcase(path, p) for p in self.allow)
        return allowed and not any(fnmatch.fnmatchcase(path, p) for p in self.ignore)


@dataclass(frozen=True, slots=True)
class _Object:
    key: str
    relative: PurePosixPath
    size: int
    tag: str


class Bucket:
    """A bucket, reached as the variables say."""

    def __init__(self, source: Source, variables: Mapping[str, str]) -> None:
        self._source = source
        self._store = _store(source, bucket_options(source, variables))

    def fetch(self, staging: Staging, filters: Filters, courier: Courier) -> None:
        """Brings every wanted object below the source's path into the staging folder.

        Raises:
            NotFound: There is none.
            Unavailable: The bucket cannot be read.
        """
        objects = [found for found in self._objects() if filters.wants(str(found.relative))]
        if not objects:
            where = self._source.uri
            raise NotFound(
                f"'{where}': no object has that name or lies below it"
                + (" and is wanted by the patterns" if filters != Filters() else "")
            )
        with ThreadPoolExecutor(_AT_ONCE, "nerite-download") as pool:
            jobs = [pool.submit(self._fetch_one, o, staging, courier) for o in objects]
            try:
                for job in jobs:
                    job.result()
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise

    def _fetch_one(self, found: _Object, staging: Staging, courier: Courier) -> None:
        if staging.has(found.relative, found.tag, found.size):
            courier.progress.expect(found.size, found.key)
            courier.progress.add(found.size, fetched=False)
            return
        part = staging.part(found.relative)
        transfer(part, self._opener(found), courier, found.key)
        staging.keep(part, found.relative)

    def _opener(self, found: _Object) -> Callable[[int, str], Opened]:
        def open_at(position: int, tag: str) -> Opened:
            start = position if tag == found.tag and position <= found.size else 0
            return Opened(start, found.size, found.tag, self._pieces(found, start))

        return open_at

    def _pieces(self, found: _Object, start: int) -> Iterator[bytes]:
        import obstore

        while start < found.size:
            end = min(start + PIECE, found.size)
            options: dict[str, Any] = {"range": (start, end)}
            if found.tag:
                options["if_match"] = found.tag
            with self._told(found.key, transient=True):
                # Its own type for the options is a class of the stub file only.
                answer = obstore.get(self._store, found.key, options=cast(Any, options))
                piece = bytes(answer.bytes())
            if len(piece) != end - start:
                raise Interrupted(f"{len(piece)} bytes came where {end - start} were asked for")
            yield piece
            start = end

    def _objects(self) -> list[_Object]:
        import obstore

        path = self._source.path
        if path:
            try:
                with self._told(path):
                    meta = obstore.head(self._store, path)
                return [self._object(meta, PurePosixPath(path).name)]
            except FileNotFoundError:
                pass  # a folder
        with self._told(path):
            found = [meta for page in obstore.list(self._store, path or None) for meta in page]
        below = f"{path}/" if path else ""
        keys = [str(meta["path"]) for meta in found]
        return [
            self._object(meta, key.removeprefix(below))
            for meta, key in zip(found, keys, strict=True)
            if key != path and not _is_marker(meta, key, keys)
        ]

    def _object(self, meta: Mapping[str, Any], relative: str) -> _Object:
        path = safe_relative(relative, self._source.uri)
        return _Object(str(meta["path"]), path, int(meta["size"]), str(meta["e_tag"] or ""))

    @contextmanager
    def _told(self, key: str, *, transient: bool = False) -> Iterator[None]:
        """Says what went wrong as one sentence; obstore has tried again already."""
        from obstore import exceptions

        where = self._source.uri
        try:
            yield
        except FileNotFoundError:  # obstore raises Python's own
            if transient:
                raise NotFound(f"'{where}': the object '{key}' is gone") from None
            raise
        except exceptions.PreconditionError as why:
            raise Unavailable(
                f"'{where}': the object '{key}' was changed while it was fetched; try again"
            ) from why
        except (exceptions.UnauthenticatedError, exceptions.PermissionDeniedError) as why:
            hint = _HINTS[self._source.kind]
            raise Unavailable(f"'{where}' may not be read; {hint}") from why
        except exceptions.BaseError as why:
            if "<Code>NoSuchBucket<" in str(why):
                raise NotFound(f"'{where}': there is no such bucket") from why
            if transient:
                raise Interrupted(_sentence(why)) from why
            raise Unavailable(f"'{where}' cannot be read: {_sentence(why)}") from why


def _is_marker(meta: Mapping[str, Any], key: str, keys: Sequence[str]) -> bool:
    """Whether an empty object only stands for a folder, as consoles create them."""
    return meta["size"] == 0 and any(other.startswith(f"{key}/") for other in keys)


def _sentence(why: Exception) -> str:
    """What the server says, or else obstore; without the debugging below the text."""
    told = re.search(r"<Message>(.+?)</Message>", str(why), re.S)
    return (told[1] if told else str(why).partition("\n")[0]).strip().rstrip(".")


def _store(source: Source, options: BucketOptions) -> ObjectStore:
    try:
        from obstore.exceptions import BaseError
        from obstore.store import AzureStore, GCSStore, S3Store
    except ImportError as why:
        raise MissingExtra(f"'{source.uri}'", "obstore", "storage") from why
    kinds: dict[str, Any] = {"s3": S3Store, "gs": GCSStore, "azure": AzureStore}
    try:
        store: ObjectStore = kinds[source.kind](
            source.container,
            config=dict(options.config),
            client_options=dict(options.client),
            retry_config={"max_retries": options.max_retries},
        )
    except BaseError as why:
        raise InvalidArgument(f"'{source.uri}': {_sentence(why)}") from why
    return store
