"""How a route reads a request, does its work in a thread, and answers in JSON, errors included."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Semaphore
from typing import NoReturn, TypeVar

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from ..calibration import GraphError, InfeasibleError, SolverError
from ..calibration.job_error import JobError
from ..calibration.learning.records import UnknownRecordError
from ..calibration.store import CalibrationTakenError, UnknownCalibrationError
from ..schedules import ScheduleError
from ..schedules.schedule import is_count, shown
from ..schedules.store import MAX_BYTES, NameTakenError, UnknownNameError
from .library import ChangingError
from .route_guard import ForbiddenError, check_sender

logger = logging.getLogger("LeMiCa")

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

T = TypeVar("T")

LONGEST_NAME = 1000
"""Names in requests may be longer than those that are given here: a file from elsewhere can have one."""

class RequestError(ValueError):
    """A request lacks something, or holds something else than its route takes."""


class KindError(RequestError):
    """The content of a request is of a kind that its route does not take."""


class BusyError(RequestError):
    """There is more to do than can be waited for."""


class TooLargeError(RequestError):
    """A request, or the file in it, is too large."""


class TakenError(RequestError):
    """A name is in use."""


class UnknownFamilyError(RequestError):
    """There is no family of this key."""


STATUS: dict[type[Exception], int] = {
    UnknownNameError: 404,
    UnknownCalibrationError: 404,
    UnknownRecordError: 404,
    UnknownFamilyError: 404,
    NameTakenError: 409,
    CalibrationTakenError: 409,
    TakenError: 409,
    ChangingError: 409,
    TooLargeError: 413,
    KindError: 415,
    BusyError: 503,
    ForbiddenError: 403,
    RequestError: 400,
    ScheduleError: 400,
    GraphError: 400,
    JobError: 400,
    SolverError: 400,
}
"""The status of each error; the first that fits."""


class Workers:
    """Threads for requests of one kind, with a short queue.

    Not the loop's own threads, which ComfyUI uses as well: a large graph is solved for seconds.

    Args:
        name: of the threads.
        threads: how many requests are worked on at once.
        waiting: how many more may wait; any further one is refused.
    """

    def __init__(self, name: str, threads: int, waiting: int) -> None:
        self._threads = ThreadPoolExecutor(threads, f"lemica-{name}")
        self._room = Semaphore(threads + waiting)

    def do(self, work: Callable[[], T]) -> Awaitable[T]:
        """What the work returns; BusyError where too much waits already."""
        if not self._room.acquire(blocking=False):
            raise BusyError("Too many requests wait already: try again in a while.")
        future = self._threads.submit(work)
        future.add_done_callback(lambda _: self._room.release())
        return asyncio.wrap_future(future)


READING = Workers("reading", threads=2, waiting=64)
"""Lists and files, which are there at once."""

SOLVING = Workers("solving", threads=2, waiting=16)
"""What may take seconds."""

CHANGING = Workers("changing", threads=1, waiting=64)
"""Changes, of which one is made at a time."""


class Body:
    """The fields of a JSON object; one that is missing or of another kind raises RequestError."""

    def __init__(self, content: bytes) -> None:
        try:
            fields = json.loads(content, parse_constant=_refuse_constant)
        except RecursionError:
            raise RequestError("The request is nested too deeply: send a plain JSON object.") from None
        except ValueError as error:
            raise RequestError(f"The request is not valid JSON ({error}): send a JSON object.") from None
        if not isinstance(fields, dict):
            raise RequestError(f"The request is a {type(fields).__name__}: send a JSON object.")
        self._fields: dict[str, object] = fields

    def __contains__(self, key: str) -> bool:
        return self._fields.get(key) is not None

    def get(self, key: str) -> object:
        """A field as it came, None where there is none."""
        return self._fields.get(key)

    def text(self, key: str, default: str | None = None) -> str:
        """A text of up to 1000 characters."""
        return checked_name(key, self._fields.get(key, default))

    def one_of(self, key: str, choices: Sequence[str], default: str) -> str:
        """One of these texts."""
        value = self._fields.get(key, default)
        if not isinstance(value, str) or value not in choices:
            raise RequestError(f"{key} is {short(value)}: give one of {', '.join(choices)}.")
        return value

    def count(self, key: str) -> int:
        """A whole number."""
        value = self._fields.get(key)
        if not is_count(value):
            raise RequestError(f"{key} is {short(value)}: give a whole number.")
        return value

    def flag(self, key: str, default: bool) -> bool:
        """True or false."""
        value = self._fields.get(key, default)
        if not isinstance(value, bool):
            raise RequestError(f"{key} is {short(value)}: give true or false.")
        return value

    def counts(self, key: str) -> tuple[int, ...]:
        """A list of whole numbers, empty where there is none."""
        value = self._fields.get(key, [])
        if not isinstance(value, list) or not all(map(is_count, value)):
            raise RequestError(f"{key} is {short(value)}: give a list of whole numbers.")
        return tuple(value)


def checked_name(key: str, value: object) -> str:
    """A text to look up; RequestError for anything else."""
    if not isinstance(value, str) or len(value) > LONGEST_NAME:
        raise RequestError(f"{key} is {short(value)}: give a text of up to {LONGEST_NAME} characters.")
    return value


def short(value: object) -> str:
    """A value as an error shows it."""
    return "missing" if value is None else shown(value)


def by_query(work: Callable[[Mapping[str, str]], object], workers: Workers = READING) -> Handler:
    """The route whose ``work`` takes the query string; it runs in a thread of ``workers``."""

    async def handler(request: web.Request) -> web.StreamResponse:
        return await _answer(request, _query, work, workers)

    return handler


def by_body(work: Callable[[Body], object], workers: Workers) -> Handler:
    """The route whose ``work`` takes a JSON object; it runs in a thread of ``workers``."""

    async def handler(request: web.Request) -> web.StreamResponse:
        return await _answer(request, _content, lambda content: work(Body(content)), workers)

    return handler


def by_form(work: Callable[[web.FileField], object], workers: Workers) -> Handler:
    """The route whose ``work`` takes the file of a form; it runs in a thread of ``workers``."""

    async def handler(request: web.Request) -> web.StreamResponse:
        return await _answer(request, _file, work, workers)

    return handler


async def _answer(
    request: web.Request, read: Callable[[web.Request], Awaitable[T]], work: Callable[[T], object], workers: Workers
) -> web.StreamResponse:
    try:
        check_sender(request)
        content = await read(request)
        return await workers.do(lambda: _done(work(content)))
    except tuple(STATUS) as error:
        return _refusal(error)
    except OSError as error:
        logger.warning("A file could not be read or written: %s", error)
        reason = error.strerror or "for an unknown reason"
        return web.json_response({"error": f"A file could not be read or written: {reason}."}, status=507)


def _refusal(error: Exception) -> web.Response:
    status = next(status for kind, status in STATUS.items() if isinstance(error, kind))
    nearest = {"nearest": list(error.nearest)} if isinstance(error, InfeasibleError) else {}
    return web.json_response({"error": str(error), **nearest}, status=status)


def _done(result: object) -> web.StreamResponse:
    if isinstance(result, web.StreamResponse):
        return result
    return web.Response(text=json.dumps(result, allow_nan=False), content_type="application/json")


async def _query(request: web.Request) -> Mapping[str, str]:
    return request.query


async def _content(request: web.Request) -> bytes:
    if request.content_type != "application/json":
        raise KindError(f"The request is {request.content_type}: send a JSON object as application/json.")
    content = bytearray()
    try:
        async for chunk in request.content.iter_any():
            content += chunk
            if len(content) > MAX_BYTES:
                raise TooLargeError(f"The request has more than {MAX_BYTES} bytes: send less.")
    except (HttpProcessingError, web.RequestPayloadError) as error:
        raise RequestError(f"The request is broken ({str(error)[:200]}): send it again.") from None
    return bytes(content)


async def _file(request: web.Request) -> web.FileField:
    if request.content_type != "multipart/form-data":
        raise RequestError(f"The request is {request.content_type}: send a form with a file in the field 'file'.")
    try:
        file = (await request.post()).get("file")
    except web.HTTPRequestEntityTooLarge:
        raise TooLargeError(f"The file is too large: this server takes {request.client_max_size} bytes.") from None
    except (ValueError, LookupError, RuntimeError, HttpProcessingError, web.RequestPayloadError, web.HTTPException) as error:
        raise RequestError(f"The form is broken ({str(error)[:200]}): send it again.") from None
    if not isinstance(file, web.FileField):
        raise RequestError("The form has no file in the field 'file': choose one.")
    return file


def _refuse_constant(constant: str) -> NoReturn:
    raise ValueError(f"it holds {constant}")
