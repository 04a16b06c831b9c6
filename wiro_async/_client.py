"""The client: what a user holds."""

from __future__ import annotations

import logging
import os
import secrets
import time
from collections import deque
from collections.abc import Collection, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, Self, final, overload

import anyio

from wiro_async import _catalogue
from wiro_async._config import Config, Limits, Polling, configure
from wiro_async._connections import sender
from wiro_async._envelope import encode
from wiro_async._errors import ConfigurationError, InvalidInput, ReplyError, SubmissionUnknown, TaskError
from wiro_async._inputs import FileSource, TypedInputs, resolve
from wiro_async._models import Model, Task, TaskResult, Upload, parse_upload, records
from wiro_async._operations import (
    LIST,
    TOOL_DETAIL,
    TOOL_LIST,
    UPLOAD,
    Accepted,
    TaskKey,
    list_payload,
    read_tasks,
)
from wiro_async._operations import run as run_of
from wiro_async._outputs import Downloader
from wiro_async._reconcile import LOOKS, doubt_of, with_marker
from wiro_async._schedule import Schedule
from wiro_async._signing import Signer, SigningTransport
from wiro_async._submit import Run, Submitter
from wiro_async._task import TaskHandle
from wiro_async._transport import Transport
from wiro_async._types import JSON, OnCancel, OnUnknown, Secret
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
        socket_url: The WebSocket's address (None: ``WIRO_SOCKET_URL``, or the service's own). It is checked,
            and not used yet: tasks are watched by polling.
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
        self._submitter: Submitter = Submitter(self._transport)
        self._unclaimed: deque[TaskHandle] = deque(maxlen=UNCLAIMED_KEPT)

    # -- submitting --------------------------------------------------------------------------------------

    @overload
    async def submit(
        self,
        model: TypedInputs,
        *,
        slot_timeout: float | None = None,
        on_unknown: OnUnknown = "raise",
        callback_url: str | None = None,
        project_id: str | None = None,
    ) -> TaskHandle: ...

    @overload
    async def submit(
        self,
        model: str,
        inputs: Inputs,
        *,
        slot_timeout: float | None = None,
        on_unknown: OnUnknown = "raise",
        callback_url: str | None = None,
        project_id: str | None = None,
    ) -> TaskHandle: ...

    async def submit(
        self,
        model: str | TypedInputs,
        inputs: Inputs | None = None,
        *,
        slot_timeout: float | None = None,
        on_unknown: OnUnknown = "raise",
        callback_url: str | None = None,
        project_id: str | None = None,
    ) -> TaskHandle:
        """Start one task. **This costs money** when the task succeeds.

        The Run is sent again by itself only when it is known that the service did not take it. When its
        answer is lost, the task is looked for in the service's list for half a minute, and adopted
        if it is there.

        A caller that is cancelled while the Run is under way gets its cancellation once the answer is in (at
        the latest after ``Limits.request_timeout``); the task is then in ``unclaimed``, and a Run that nobody
        knows the outcome of in ``unresolved``.

        Args:
            model: The slug, ``owner/model``; or typed inputs, which know their model.
            inputs: The model's inputs by name, or typed inputs. Local files (``pathlib.Path``, bytes, an
                open binary file) are uploaded, and their URLs used.
            slot_timeout: Seconds to wait for room when as many tasks run as the balance allows (None:
                ``Limits.slot_timeout``; 0: raise at once).
            on_unknown: What to do when the answer was lost and the task was proved absent: ``"raise"``, or
                ``"resubmit"``, which may pay twice if the service's list is wrong.
            callback_url: Where the service shall POST the result when the task ends. A query item is added,
                by which the task can be found if the Run's answer is lost.
            project_id: The project to book the task on, if not the key's own.

        Returns:
            The task's handle.

        Raises:
            InvalidInput: The model or an input cannot be sent, or was refused.
            SubmissionUnknown: The answer was lost, and the task not found: it may exist.
            ConcurrencyLimited: No slot came free in time.
            WiroError: The service refused, or was not reached; no task exists.
        """
        slug, given = _named(model, inputs)
        run = await self._prepare(slug, given, callback_url, project_id)
        patience = self._config.limits.slot_timeout if slot_timeout is None else slot_timeout
        return await self._submit(run, patience, on_unknown, [])

    async def _prepare(
        self, slug: str, inputs: Inputs, callback_url: str | None, project_id: str | None
    ) -> Run:
        """Check everything and upload what is local, before anything is paid for."""
        operation = run_of(slug)
        payload = await resolve(
            inputs.to_inputs() if isinstance(inputs, TypedInputs) else inputs, self._url_of
        )
        _add(payload, "callbackUrl", callback_url)
        _add(payload, "projectid", project_id)
        if "callbackUrl" in payload:
            payload["callbackUrl"] = with_marker(check_callback(payload["callbackUrl"]), secrets.token_hex(8))
        encode(payload)
        return Run(operation, slug, payload, time.time())

    async def _submit(
        self, run: Run, patience: float, on_unknown: OnUnknown, late: list[TaskHandle]
    ) -> TaskHandle:
        def keep(outcome: Accepted | SubmissionUnknown) -> None:
            if isinstance(outcome, SubmissionUnknown):
                self._submitter.unresolved.append(outcome)
                logger.warning("the submit of a caller who was cancelled: %s", outcome)
                return
            late.append(self._handle(TaskKey(outcome.id, outcome.token), run))
            self._unclaimed.append(late[-1])
            logger.warning("task %s was accepted for a caller who was cancelled meanwhile", outcome.id)

        accepted = await self._submitter.submit(run, patience, on_unknown, keep)
        return self._handle(TaskKey(accepted.id, accepted.token), run)

    def _handle(self, key: TaskKey, run: Run | None = None) -> TaskHandle:
        return TaskHandle(
            key,
            self._transport,
            self._schedule,
            self._config.limits,
            self._downloader,
            owner=self._submitter,
            run=run,
        )

    @overload
    async def run(
        self,
        model: TypedInputs,
        *,
        timeout: float | None = None,
        on_cancel: OnCancel = "keep",
        on_unknown: OnUnknown = "raise",
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
        on_unknown: OnUnknown = "raise",
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
        on_unknown: OnUnknown = "raise",
        callback_url: str | None = None,
        project_id: str | None = None,
    ) -> TaskResult:
        """Start one task and wait for what it brings. **This costs money** when the task succeeds.

        A task whose run() is cancelled, or cannot look at it any more, is in ``unclaimed``.

        Args:
            model: As for ``submit()``.
            inputs: As for ``submit()``.
            timeout: Seconds from the submit to the end (None: ``Limits.slot_timeout`` for a slot, and then
                ``Limits.wait_timeout``). Uploads are not counted.
            on_cancel: What becomes of the task when the caller is cancelled or the wait times out:
                ``"keep"`` leaves it alone, ``"stop"`` stops it before the exception goes on.
            on_unknown: As for ``submit()``.
            callback_url: As for ``submit()``.
            project_id: As for ``submit()``.

        Raises:
            TaskFailed: The task ran and failed.
            TaskCancelled: The task was cancelled or killed.
            TaskTimeout: The wait ran out; its ``handle`` goes on.
            WiroError: As for ``submit()``.
        """
        slug, given = _named(model, inputs)
        run = await self._prepare(slug, given, callback_url, project_id)
        limits = self._config.limits
        start = anyio.current_time()
        patience = limits.slot_timeout if timeout is None else min(limits.slot_timeout, timeout)
        late: list[TaskHandle] = []
        try:
            handle = await self._submit(run, patience, on_unknown, late)
        except BaseException:
            if late and on_cancel == "stop":
                await late[0]._stop_shielded()
            raise
        left = None if timeout is None else max(timeout - (anyio.current_time() - start), 0.0)
        return await self._result(handle, left, on_cancel)

    async def _result(self, handle: TaskHandle, timeout: float | None, on_cancel: OnCancel) -> TaskResult:
        try:
            return await handle.result(timeout, on_cancel=on_cancel)
        except (TaskError, SubmissionUnknown):
            raise  # It names the task, or says that nobody knows.
        except BaseException:
            # Whoever called run() has no handle of the task, which may go on and be billed.
            self._unclaimed.append(handle)
            logger.warning("task %s was left by its run(); it is %s", handle.id, handle.status)
            raise

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
        if task_id and str(task_id) not in self._submitter.held:
            self._submitter.held.add(str(task_id))
        if not task_id and not isinstance(secret, Secret):
            raise InvalidInput("attach() needs the task's id or its token")
        return self._handle(TaskKey(str(task_id) if task_id else None, secret or None))

    async def reconcile(self, error: SubmissionUnknown) -> TaskHandle:
        """Look again for the task of a Run whose answer was lost, perhaps in another process.

        Args:
            error: The doubt, live or unpickled.

        Returns:
            The task's handle.

        Raises:
            SubmissionUnknown: It is not there; its ``absent`` tells whether the list could be read.
        """
        fresh = time.time() - error.submitted_at < LOOKS[-1]
        outcome = await self._submitter.reconcile(doubt_of(error), error.cause, LOOKS if fresh else LOOKS[:1])
        if isinstance(outcome, SubmissionUnknown):
            raise outcome
        return self._handle(TaskKey(outcome.id, outcome.token))

    @property
    def unresolved(self) -> tuple[SubmissionUnknown, ...]:
        """Doubts about Runs whose submitter was being cancelled, for ``reconcile()``; the newest 1 000."""
        return tuple(self._submitter.unresolved)

    @property
    def unclaimed(self) -> tuple[TaskHandle, ...]:
        """Tasks whose ``submit()`` or ``run()`` was cancelled, so that it did not tell; the newest 1 000."""
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


def check_callback(url: object) -> str:
    """Refuse a callback address that the service could never call."""
    if not isinstance(url, str) or not url.startswith(("http://", "https://")):
        raise InvalidInput(
            "callback_url must be an http or https URL that the service can reach", name="callback_url"
        )
    return url
