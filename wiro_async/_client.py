"""The client: what a user holds."""

from __future__ import annotations

import hashlib
import logging
import os
import time
from collections import deque
from collections.abc import Collection, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, Self, final, overload

from wiro_async import _catalogue
from wiro_async._config import Config, Limits, Polling, configure
from wiro_async._connections import sender
from wiro_async._envelope import encode
from wiro_async._errors import ConfigurationError, InvalidInput, ReplyError, SubmissionUnknown, WiroError
from wiro_async._inputs import FileSource, TypedInputs, resolve
from wiro_async._models import Model, Task, TaskResult, Upload, parse_upload, records
from wiro_async._operations import (
    LIST,
    TOOL_DETAIL,
    TOOL_LIST,
    UPLOAD,
    TaskKey,
    list_payload,
    read_accepted,
    read_tasks,
    run,
)
from wiro_async._outputs import Downloader
from wiro_async._retry import run_knowledge
from wiro_async._schedule import Schedule
from wiro_async._signing import Signer, SigningTransport
from wiro_async._task import TaskHandle
from wiro_async._transport import Transport
from wiro_async._types import JSON, OnCancel, Secret
from wiro_async._upload import MultipartFile, open_source

if TYPE_CHECKING:
    import httpx

__all__ = ["Client"]

logger = logging.getLogger("wiro_async")

UNCLAIMED_KEPT = 1000

Inputs = Mapping[str, Any] | TypedInputs


@final
class Client:
    """A client of the Wiro API, for one project, one event loop and one process.

    It starts no background task. ``async with`` closes it at the end of the block; without, call
    ``aclose()`` when done. Its repr shows no key.

    Args:
        api_key: The project's key (None: the environment's ``WIRO_API_KEY``).
        api_secret: The project's secret, for signed projects (None: ``WIRO_API_SECRET`` if the key comes
            from the environment too; without any, the project is taken for a key-only one).
        base_url: The API's address (None: ``WIRO_BASE_URL``, or the service's own). Plain http is for
            loopback addresses only.
        socket_url: The WebSocket's address (None: ``WIRO_SOCKET_URL``, or the service's own).
        polling: How often waiting tasks are looked at.
        limits: Bounds on time and traffic.
        download_hosts: Hosts beside the service's own that outputs may be downloaded from, over https.
        transport: What sends the requests instead of our own connections, for API calls and downloads
            both; it is closed with the client.
        proxy: The URL of a proxy to send everything through, instead of our own connections.

    Raises:
        ConfigurationError: A value is missing or cannot work.
    """

    def __init__(
        self,
        api_key: str | None = None,
        api_secret: str | None = None,
        *,
        base_url: str | None = None,
        socket_url: str | None = None,
        polling: Polling | None = None,
        limits: Limits | None = None,
        download_hosts: Collection[str] = (),
        transport: httpx.AsyncBaseTransport | None = None,
        proxy: str | None = None,
    ) -> None:
        problem: ConfigurationError | None = None
        try:
            self._config: Config = configure(
                api_key,
                api_secret,
                base_url=base_url,
                socket_url=socket_url,
                download_hosts=frozenset(download_hosts),
                polling=polling,
                limits=limits,
                environ=os.environ,
            )
        except ConfigurationError as error:
            problem = error.with_traceback(None)
        # Some tracebacks print the locals of their frames.
        del api_key, api_secret
        if problem is not None:
            raise problem
        signer = Signer(self._config.api_key, self._config.api_secret)
        timeout = self._config.limits.connect_timeout
        signing = SigningTransport(sender(transport, proxy, timeout), signer, self._config.origin)
        self._transport: Transport = Transport(self._config, signing)
        # Downloads have connections of their own, so that none of them ever carried a credential.
        self._downloader: Downloader = Downloader(self._config, sender(transport, proxy, timeout))
        self._schedule: Schedule = Schedule(self._config.polling)
        self._unclaimed: deque[TaskHandle] = deque(maxlen=UNCLAIMED_KEPT)

    # -- submitting --------------------------------------------------------------------------------------

    @overload
    async def submit(
        self, model: TypedInputs, *, callback_url: str | None = None, project_id: str | None = None
    ) -> TaskHandle: ...

    @overload
    async def submit(
        self, model: str, inputs: Inputs, *, callback_url: str | None = None, project_id: str | None = None
    ) -> TaskHandle: ...

    async def submit(
        self,
        model: str | TypedInputs,
        inputs: Inputs | None = None,
        *,
        callback_url: str | None = None,
        project_id: str | None = None,
    ) -> TaskHandle:
        """Start one task. **This costs money** when the task succeeds.

        The Run is sent again by itself only when it is known that the service did not take it. A caller
        that is cancelled while the Run is under way gets its cancellation once the answer is in (at the
        latest after ``Limits.request_timeout``); the task is then in ``unclaimed``.

        Args:
            model: The slug, ``owner/model``; or typed inputs, which know their model.
            inputs: The model's inputs by name, or typed inputs. Local files (``pathlib.Path``, bytes, an
                open binary file) are uploaded, and their URLs used.
            callback_url: Where the service shall POST the result when the task ends.
            project_id: The project to book the task on, if not the key's own.

        Returns:
            The task's handle.

        Raises:
            InvalidInput: The model or an input cannot be sent, or was refused.
            SubmissionUnknown: The answer did not arrive: the task may exist.
            WiroError: The service refused, or was not reached; no task exists.
        """
        slug, given = _named(model, inputs)
        return await self._submit(slug, given, callback_url, project_id, [])

    async def _submit(
        self,
        slug: str,
        inputs: Inputs,
        callback_url: str | None,
        project_id: str | None,
        late: list[TaskHandle],
    ) -> TaskHandle:
        operation = run(slug)
        payload = await resolve(
            inputs.to_inputs() if isinstance(inputs, TypedInputs) else inputs, self._url_of
        )
        _add(payload, "callbackUrl", None if callback_url is None else check_callback(callback_url))
        _add(payload, "projectid", project_id)
        sent_at = time.time()

        def receive(answer: JSON | WiroError) -> TaskHandle:
            if isinstance(answer, WiroError):
                _raise_judged(answer, slug, payload, sent_at)
            try:
                return self._accepted(slug, answer)
            except ReplyError as error:
                _raise_judged(error, slug, payload, sent_at)

        def keep_late(answer: JSON | WiroError) -> None:
            try:
                late.append(receive(answer))
            except WiroError as error:
                logger.warning("the submit of a caller who was cancelled: %s", error)
            else:
                self._unclaimed.append(late[-1])
                logger.warning("task %s was accepted for a caller who was cancelled meanwhile", late[-1].id)

        try:
            answer: JSON | WiroError = await self._transport.call(operation, payload, keep_late)
        except WiroError as error:
            answer = error
        return receive(answer)

    def _accepted(self, slug: str, answer: JSON) -> TaskHandle:
        accepted = read_accepted(answer)
        return self._handle(TaskKey(accepted.id, accepted.token), slug, submitted=True)

    def _handle(self, key: TaskKey, slug: str = "", *, submitted: bool = False) -> TaskHandle:
        return TaskHandle(
            key,
            self._transport,
            self._schedule,
            self._config.limits,
            self._downloader,
            model=slug,
            submitted=submitted,
        )

    @overload
    async def run(
        self,
        model: TypedInputs,
        *,
        timeout: float | None = None,
        on_cancel: OnCancel = "keep",
        callback_url: str | None = None,
        project_id: str | None = None,
    ) -> TaskResult: ...

    @overload
    async def run(
        self,
        model: str,
        inputs: Inputs,
        *,
        timeout: float | None = None,
        on_cancel: OnCancel = "keep",
        callback_url: str | None = None,
        project_id: str | None = None,
    ) -> TaskResult: ...

    async def run(
        self,
        model: str | TypedInputs,
        inputs: Inputs | None = None,
        *,
        timeout: float | None = None,
        on_cancel: OnCancel = "keep",
        callback_url: str | None = None,
        project_id: str | None = None,
    ) -> TaskResult:
        """Start one task and wait for what it brings. **This costs money** when the task succeeds.

        Args:
            model: As for ``submit()``.
            inputs: As for ``submit()``.
            timeout: Seconds to wait for the end, once submitted (None: ``Limits.wait_timeout``).
            on_cancel: What becomes of the task when the caller is cancelled or the wait times out:
                ``"keep"`` leaves it alone, ``"stop"`` stops it before the exception goes on.
            callback_url: As for ``submit()``.
            project_id: As for ``submit()``.

        Raises:
            TaskFailed: The task ran and failed.
            TaskCancelled: The task was cancelled or killed.
            TaskTimeout: The wait ran out; its ``handle`` goes on.
            WiroError: As for ``submit()``.
        """
        slug, given = _named(model, inputs)
        late: list[TaskHandle] = []
        try:
            handle = await self._submit(slug, given, callback_url, project_id, late)
        except BaseException:
            if late and on_cancel == "stop":
                await late[0]._stop_shielded()
            raise
        return await handle.result(timeout, on_cancel=on_cancel)

    def attach(self, task_id: str | None = None, *, token: str | Secret | None = None) -> TaskHandle:
        """Return the handle of a task that was started elsewhere: in another process, on another day.

        Nothing is sent until the handle is used.

        Args:
            task_id: The task's id.
            token: Its socket access token, if the id is not known.

        Raises:
            InvalidInput: Neither was given.
        """
        secret = Secret(token) if isinstance(token, str) and token else token
        if not task_id and not isinstance(secret, Secret):
            raise InvalidInput("attach() needs the task's id or its token")
        return self._handle(TaskKey(str(task_id) if task_id else None, secret or None))

    @property
    def unclaimed(self) -> tuple[TaskHandle, ...]:
        """Tasks that were accepted while their submitter was being cancelled; the newest 1 000."""
        return tuple(self._unclaimed)

    # -- files -------------------------------------------------------------------------------------------

    async def upload(self, file: FileSource, *, name: str | None = None, folder: str = "") -> Upload:
        """Upload one local file, for use as an input.

        Args:
            file: A path, bytes, or an open binary file that can be sought; at most 100 MB.
            name: What to call it (None: by its own name). It is made harmless and unique.
            folder: The service's id of the folder to put it in.

        Returns:
            The service's record; give its ``url`` as an input.

        Raises:
            InvalidInput: The file cannot be read, is empty, or is too large. Nothing was sent.
            WiroError: The service refused, or was not reached.
        """
        source = await open_source(file, name)
        try:
            body = MultipartFile(source, folder)
            answer = await self._transport.upload(UPLOAD, body.headers, body)
        finally:
            await source.aclose()
        for item in records(answer.get("list")):
            upload = parse_upload(item)
            if upload.url:
                return upload
        raise ReplyError("File/Upload: the reply names no file", http_status=200, operation="File/Upload")

    async def _url_of(self, file: FileSource) -> str:
        return (await self.upload(file)).url

    # -- looking around ----------------------------------------------------------------------------------

    async def tasks(self, *, model: str | None = None, start: int = 0, limit: int = 20) -> list[Task]:
        """Return snapshots of the project's tasks, newest first.

        Args:
            model: Only tasks of this model.
            start: How many to leave out.
            limit: How many to return at most.

        Raises:
            WiroError: The call failed.
        """
        answer = await self._transport.call(LIST, list_payload(model, start, limit))
        return read_tasks(answer, self._downloader)

    async def models(
        self, search: str = "", *, category: str | None = None, start: int = 0, limit: int = 20
    ) -> list[Model]:
        """Search the catalogue.

        Args:
            search: A word of the name or description ("" for all).
            category: Such as ``image-to-video``.
            start: How many to leave out.
            limit: How many to return at most.

        Raises:
            WiroError: The call failed.
        """
        answer = await self._transport.call(
            TOOL_LIST, _catalogue.list_payload(search, category, start, limit)
        )
        return _catalogue.read_models(answer)

    async def model(self, slug: str) -> Model:
        """Return one model with its inputs.

        Raises:
            ModelNotFound: There is none.
            WiroError: The call failed.
        """
        answer = await self._transport.call(TOOL_DETAIL, _catalogue.detail_payload(slug))
        return _catalogue.read_model(answer, slug)

    # -- the client itself -------------------------------------------------------------------------------

    async def aclose(self) -> None:
        """Wait for Runs that are under way, and close all connections. Safe to repeat."""
        await self._transport.aclose()
        await self._downloader.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        config: Config | None = getattr(self, "_config", None)
        if config is None:
            return "<Client, not set up>"
        return f"<Client {config.base_url} {'key-only' if config.api_secret is None else 'signed'}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Client cannot be pickled: it holds credentials; make one where you need it")


def _named(model: object, inputs: Inputs | None) -> tuple[str, Inputs]:
    """Sort out who names the model, and who the inputs."""
    if isinstance(model, str):
        if inputs is None:
            raise InvalidInput(
                f"no inputs for {model[:60]!r}; give a mapping, {{}} if it takes none", name="inputs"
            )
        return model, inputs
    if isinstance(model, TypedInputs) and inputs is None:
        return model.model, model
    raise InvalidInput(
        "the model comes first, as owner/model; only typed inputs can do without", name="model"
    )


def _add(payload: JSON, name: str, value: str | None) -> None:
    if value is None:
        return
    if name in payload:
        raise InvalidInput(f"{name} is given twice: among the inputs, and by its own argument", name=name)
    payload[name] = value


def check_callback(url: str) -> str:
    """Refuse a callback address that the service could never call."""
    if not url.startswith(("http://", "https://")):
        raise InvalidInput(
            "callback_url must be an http or https URL that the service can reach", name="callback_url"
        )
    return url


def _raise_judged(error: WiroError, slug: str, payload: JSON, sent_at: float) -> NoReturn:
    """Raise *error*, or say that nobody knows whether the task exists."""
    if run_knowledge(error) != "unknown":
        raise error
    raise SubmissionUnknown(
        f"Run of {slug}: {error.message}. The task may have been accepted and billed, so the Run was not "
        f"sent again; look for it with client.tasks() before you submit it again",
        model=slug,
        inputs_digest=hashlib.sha256(encode(payload)).hexdigest(),
        submitted_at=sent_at,
        cause=error.message,
    ) from error
