"""The client: what a user holds."""

from __future__ import annotations

import logging
import math
import os
import secrets
import time
from collections import deque
from collections.abc import AsyncIterable, Awaitable, Callable, Collection, Iterable, Mapping
from decimal import Decimal
from os import PathLike
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, NoReturn, Self, final, overload

import anyio

from wiro_async._config import Config, Limits, Polling, check_watch, configure, seconds_of
from wiro_async._errors import (
    ConfigurationError,
    InvalidInput,
    InvalidResponse,
    SubmissionUnknown,
    TaskError,
)
from wiro_async._files.download import Downloader
from wiro_async._files.inputs import FileSource, TypedInputs, by_name, resolve
from wiro_async._files.upload import MultipartFile, open_source
from wiro_async._http.connections import make_tls, sender
from wiro_async._http.signing import Signer, SigningTransport
from wiro_async._http.transport import USER_AGENT, Transport
from wiro_async._jobs.submit import Run, Submitter
from wiro_async._protocol import catalogue
from wiro_async._protocol.envelope import encode, objects
from wiro_async._protocol.matching import RunFingerprint, fingerprint_of, looks_within, with_marker
from wiro_async._protocol.operations import TOOL_DETAIL, TOOL_LIST, UPLOAD
from wiro_async._protocol.operations import run as run_of
from wiro_async._protocol.records import (
    Accepted,
    Model,
    Task,
    TaskKey,
    TaskResult,
    Upload,
    parse_upload,
    read_tasks,
)
from wiro_async._tasks.handle import Shared, TaskHandle
from wiro_async._tasks.iterators import Listing
from wiro_async._types import JSON, OnCancel, OnUnknown, Secret, Watch
from wiro_async._watch.schedule import Schedule, Statistics

if TYPE_CHECKING:
    import httpx

    from wiro_async._batch.batch import Batch
    from wiro_async._batch.progress import BatchProgress
    from wiro_async._batch.source import Jobs, KeyFunction
    from wiro_async._jobs.job import Inputs
    from wiro_async._journal.sqlite import Journal
    from wiro_async._watch.callbacks import CallbackURL
    from wiro_async._watch.pool import Sockets

__all__ = ["Client"]

logger = logging.getLogger("wiro_async")

UNCLAIMED_KEPT = 1000


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
        socket_url: The WebSocket's address (None: ``WIRO_SOCKET_URL``, or the service's own). With a
            ``base_url`` of another service, the service's own is not used.
        watch: How to learn of a task's end: ``"auto"`` listens on the WebSocket if the extra ``ws`` is
            installed, and polls what cannot be listened to; ``"socket"`` is the same, and raises if the extra
            is missing; ``"poll"``; ``"callback"`` (see ``CallbackReceiver``). On trio, behind a proxy, and
            over a transport of your own, tasks are polled.
        tasks_per_socket: How many tasks share one WebSocket; more than 1 only if the service is known to
            allow it.
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
        watch: Watch = "auto",
        tasks_per_socket: int = 1,
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
                watch=watch,
                tasks_per_socket=tasks_per_socket,
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
        self._looks: tuple[float, ...] = looks_within(self._config.limits.settle_timeout)
        self._submitter: Submitter = Submitter(self._transport, self._looks)
        self._sockets: Sockets | None = None
        if transport is None and proxy is None:
            self._sockets = _sockets(self._config)
        self._shared: Shared = Shared(
            self._transport,
            Schedule(self._config.polling),
            self._config.limits,
            store=self._downloader,
            owner=self._submitter,
            sockets=self._sockets,
            safety_interval=self._config.polling.safety_interval,
            urgent_interval=self._config.polling.min_interval,
        )
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
        watch: Watch | None = None,
        expected_duration: float | None = None,
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
        watch: Watch | None = None,
        expected_duration: float | None = None,
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
        watch: Watch | None = None,
        expected_duration: float | None = None,
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
            watch: How to learn of the task's end (None: as the client does, which polls where a callback is
                its way and there is no *callback_url*).
            expected_duration: Seconds that the task is likely to take, from submit to end, if you know better
                than the client, which learns this for each model (None: you do not).

        Returns:
            The task's handle.

        Raises:
            InvalidInput: The model or an input cannot be sent, or was refused.
            SubmissionUnknown: The answer was lost, and the task not found: it may exist.
            ConcurrencyLimited: No slot came free in time.
            WiroError: The service refused, or was not reached; no task exists.
        """
        patience = seconds_of("slot_timeout", slot_timeout, self._config.limits.slot_timeout)
        slug, given = _named(model, inputs)
        run = await self._prepare(
            slug,
            given,
            callback_url=callback_url,
            project_id=project_id,
            watch=watch,
            expected=expected_duration,
        )
        return await self._submit(run, patience, on_unknown, [])

    async def _prepare(
        self,
        slug: str,
        inputs: Inputs,
        *,
        callback_url: str | None = None,
        project_id: str | None = None,
        watch: Watch | None = None,
        expected: float | None = None,
        url_of: Callable[[FileSource], Awaitable[str]] | None = None,
    ) -> Run:
        """Check everything and upload what is local, before anything is paid for."""
        await self._shared.turnstile.enter()
        operation = run_of(slug)
        watching = self._watching(watch, is_called=callback_url is not None or _names_callback(inputs))
        payload = await resolve(
            by_name(inputs),
            url_of or self._url_of,
        )
        _add(payload, "callbackUrl", callback_url)
        _add(payload, "projectid", project_id)
        if "callbackUrl" in payload:
            payload["callbackUrl"] = with_marker(check_callback(payload["callbackUrl"]), secrets.token_hex(8))
        encode(payload)
        return Run(operation, slug, payload, time.time(), watching, expected, _receiver_of(callback_url))

    def _watching(self, watch: Watch | None, *, is_called: bool) -> Watch:
        chosen = self._config.watch if watch is None else check_watch(watch)
        if chosen == "callback" and not is_called:
            if watch is None:
                return "poll"
            raise InvalidInput(
                "watch='callback' waits for the service's callback, and there is no callback_url; give one "
                "or leave watch out",
                name="callback_url",
            )
        if chosen == "socket" and watch is not None:
            from wiro_async._watch import pool  # noqa: PLC0415 - for those who listen

            pool.require()
        return chosen

    async def _submit(
        self,
        run: Run,
        patience: float,
        on_unknown: OnUnknown,
        late: list[TaskHandle],
        until: float = float("inf"),
    ) -> TaskHandle:
        def keep(outcome: Accepted | SubmissionUnknown) -> None:
            if isinstance(outcome, SubmissionUnknown):
                self._submitter.unresolved.append(outcome)
                logger.warning("the submit of a caller who was cancelled: %s", outcome)
                return
            late.append(self._handle(TaskKey(outcome.id, outcome.token), run))
            self._unclaimed.append(late[-1])
            logger.warning("task %s was accepted for a caller who was cancelled meanwhile", outcome.id)

        accepted = await self._submitter.submit(run, patience, on_unknown, keep, until=until)
        return self._handle(TaskKey(accepted.id, accepted.token), run)

    def _handle(self, key: TaskKey, run: Run | None = None) -> TaskHandle:
        if run is None:
            return TaskHandle(key, self._shared, watch=self._config.watch)
        handle = TaskHandle(key, self._shared, run=run, watch=run.watch, expected=run.expected)
        if run.callback is not None:
            handle._await_callback(run.callback)
        return handle

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
        watch: Watch | None = None,
        expected_duration: float | None = None,
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
        watch: Watch | None = None,
        expected_duration: float | None = None,
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
        watch: Watch | None = None,
        expected_duration: float | None = None,
    ) -> TaskResult:
        """Start one task and wait for what it brings. **This costs money** when the task succeeds.

        A task whose run() is cancelled, or cannot look at it any more, is in ``unclaimed``.

        Args:
            model: As for ``submit()``.
            inputs: As for ``submit()``.
            timeout: Seconds from the submit to the end (None: ``Limits.slot_timeout`` for a slot, and then
                ``Limits.wait_timeout``). Uploads are not counted. A Run that is under way when it passes
                has ``Limits.request_timeout`` to be answered.
            on_cancel: What becomes of the task when the caller is cancelled or the wait times out:
                ``"keep"`` leaves it alone, ``"stop"`` stops it before the exception goes on.
            on_unknown: As for ``submit()``.
            callback_url: As for ``submit()``.
            project_id: As for ``submit()``.
            watch: As for ``submit()``.
            expected_duration: As for ``submit()``.

        Raises:
            TaskFailed: The task ran and failed.
            TaskCancelled: The task was cancelled or killed.
            TaskTimeout: The wait ran out; its ``handle`` goes on.
            WiroError: As for ``submit()``.
        """
        seconds = seconds_of("timeout", timeout, math.inf)
        slug, given = _named(model, inputs)
        run = await self._prepare(
            slug,
            given,
            callback_url=callback_url,
            project_id=project_id,
            watch=watch,
            expected=expected_duration,
        )
        start = anyio.current_time()
        patience = min(self._config.limits.slot_timeout, seconds)
        late: list[TaskHandle] = []
        try:
            handle = await self._submit(run, patience, on_unknown, late, start + seconds)
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
        # It may have waited for a slot before it left.
        outcome = await self._look_for(
            fingerprint_of(error), error.cause, sent_within=self._config.limits.slot_timeout
        )
        if isinstance(outcome, SubmissionUnknown):
            raise outcome
        return self._handle(TaskKey(outcome.id, outcome.token))

    async def _look_for(
        self, fingerprint: RunFingerprint, cause: str, *, sent_within: float | None
    ) -> Accepted | SubmissionUnknown:
        """Look for the task of a lost answer: several times, unless the list has had its time already.

        Args:
            fingerprint: What to look for.
            cause: What was seen instead of an answer.
            sent_within: Seconds after ``doubt.sent_at`` in which the Run may have left (None: do not rely on
                it, and look several times).
        """
        limits = self._config.limits
        polls = self._looks
        # The service may have taken it as late as we gave up waiting for its answer.
        if sent_within is not None and time.time() - fingerprint.sent_at >= (
            sent_within + limits.request_timeout + limits.settle_timeout
        ):
            polls = polls[:1]
        return await self._submitter.reconcile(fingerprint, cause, polls)

    @property
    def unresolved(self) -> tuple[SubmissionUnknown, ...]:
        """Doubts about Runs whose submitter was being cancelled, for ``reconcile()``; the newest 1 000."""
        return tuple(self._submitter.unresolved)

    @property
    def unclaimed(self) -> tuple[TaskHandle, ...]:
        """Tasks whose ``submit()`` or ``run()`` was cancelled, so that it did not tell; the newest 1 000."""
        return tuple(self._unclaimed)

    # -- batches -----------------------------------------------------------------------------------------

    def batch(
        self,
        jobs: Jobs = (),
        *,
        journal: str | PathLike[str] | None = None,
        key: KeyFunction | None = None,
        model: str | None = None,
        concurrency: int | Literal["auto"] = "auto",
        max_cost: Decimal | float | str | None = None,
        download: str | PathLike[str] | None = None,
        delete_remote: bool = False,
        ordered: bool = False,
        fail_fast: bool = False,
        retry_failed: int = 0,
        breaker: int | None = 20,
        canary: int = 0,
        timeout: float | None = None,
        on_unknown: OnUnknown = "raise",
        stop_on_exit: Literal["leave", "stop"] = "leave",
        on_progress: Callable[[BatchProgress], object] | None = None,
        total: int | None = None,
        memo: Mapping[str, Any] | None = None,
    ) -> Batch:
        """Make many things, each paid for once. **This costs money** for every task that succeeds.

        ::

            async with client.batch(jobs, journal="clips.db", max_cost=25, download="clips/") as batch:
                async for outcome in batch:
                    print(outcome.key, outcome.paths or outcome.error)

        With a journal the batch can be taken up again, by the same call, whatever ended it: keys that are
        done are skipped, running tasks waited for, lost answers looked for, missing files fetched. Without
        jobs that is all it does.

        Args:
            jobs: ``Job`` records, from any iterable or async iterable; read only as there is room for them.
            journal: A file that keeps what must not be lost; made when missing. One process at a time.
            key: Gives each job its key (None: the jobs' own keys, or digests of their inputs).
            model: The model of jobs that name none.
            concurrency: How many tasks may run at a time at most (``"auto"``: as many as the account allows,
                which is learned from its refusals).
            max_cost: USD that the journal's runs may cost in all (None: no limit). It is passed by no more
                than what runs in flight cost beyond the estimates made for them: by the catalogue, until
                three such runs have ended, and then by what these cost. A run whose cost the service does
                not tell counts, and is recorded, as estimated; without any estimate the batch stops.
            download: Where outputs are saved: a folder, or a path with ``{key}``, ``{task_id}``, ``{n}``,
                ``{name}``, ``{ext}``, ``{model}`` in it (None: nowhere).
            delete_remote: Delete the service's copies once they are saved.
            ordered: Hand out outcomes in the jobs' order, not as they come.
            fail_fast: Submit nothing more after the first failure.
            retry_failed: How often a job whose task failed, or was cancelled in an earlier run of the
                journal, is run again; failed runs are not billed.
            breaker: Submit nothing more after so many equal failures in a row (None: go on).
            canary: How many jobs must succeed before the others are submitted.
            timeout: Seconds to wait for one task (None: ``Limits.wait_timeout``).
            on_unknown: As for ``submit()``.
            stop_on_exit: What becomes of running tasks when the block is left early: ``"leave"`` or
                ``"stop"``; those that are stopped are made again with ``retry_failed``.
            on_progress: Called with the counts as they change, at most ten times a second.
            total: How many jobs there are, if you know; without it there is no estimate of the end.
            memo: A JSON object to keep in the journal for whoever resumes the batch (None: the journal keeps
                the one it has). ``JournalReader.memo()`` returns it; ``wiro batch`` keeps its options there.

        Raises:
            ConfigurationError: An argument cannot work.
        """
        from wiro_async._batch.batch import Batch, batch_settings  # noqa: PLC0415 - SQLite, for batches only

        settings = batch_settings(
            journal=journal,
            key=key,
            model=model,
            concurrency=concurrency,
            max_cost=max_cost,
            download=download,
            delete_remote=delete_remote,
            ordered=ordered,
            fail_fast=fail_fast,
            retry_failed=retry_failed,
            breaker=breaker,
            canary=canary,
            timeout=timeout,
            on_unknown=on_unknown,
            stop_on_exit=stop_on_exit,
            on_progress=on_progress,
            total=total,
            memo=memo,
        )
        return Batch(self, jobs, settings)

    def map(self, model: str, inputs: Iterable[Inputs] | AsyncIterable[Inputs], **options: Any) -> Batch:
        """Run one model on many inputs: ``batch()`` for those who need no keys.

        Args:
            model: The slug.
            inputs: Inputs as for ``submit()``, from any iterable or async iterable.
            **options: As for ``batch()``.
        """
        from wiro_async._batch.batch import as_jobs  # noqa: PLC0415 - as in batch()

        return self.batch(as_jobs(inputs), model=model, **options)

    async def _hold(self, journal: Journal) -> None:
        """Take the journal's tasks for somebody's: none of them is what a lost answer was about."""
        for task_id in await journal.task_ids():
            self._submitter.held.add(task_id)

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
        for item in objects(answer.get("list")):
            upload = parse_upload(item)
            if upload.url:
                return upload
        raise InvalidResponse(
            "File/Upload: the reply names no file", http_status=200, operation="File/Upload"
        )

    async def _url_of(self, file: FileSource) -> str:
        return (await self.upload(file)).url

    # -- looking around ----------------------------------------------------------------------------------

    def list_tasks(self, *, model: str | None = None, limit: int | None = None) -> Listing[Task]:
        """Iterate over the project's tasks, newest first: ``async for task in client.list_tasks(limit=20)``.

        Args:
            model: Only tasks of this model.
            limit: How many to return at most (None: all).

        Raises:
            InvalidInput: The limit cannot work.
            WiroError: While iterating: a call failed.
        """

        async def fetch(start: int, count: int) -> list[Task]:
            return read_tasks(await self._transport.tasks(model, start, count), self._downloader)

        return Listing(fetch, lambda task: task.id, limit)

    def list_models(
        self, search: str = "", *, category: str | None = None, limit: int | None = None
    ) -> Listing[Model]:
        """Iterate over the catalogue's models, as ``list_tasks()`` over tasks.

        Args:
            search: A word of the name or description ("" for all).
            category: Such as ``image-to-video``.
            limit: How many to return at most (None: all).

        Raises:
            InvalidInput: The limit cannot work.
            WiroError: While iterating: a call failed.
        """

        async def fetch(start: int, count: int) -> list[Model]:
            payload = catalogue.list_payload(search, category, start, count)
            return catalogue.read_models(await self._transport.call(TOOL_LIST, payload))

        return Listing(fetch, lambda model: model.slug, limit)

    async def get_model(self, slug: str) -> Model:
        """Return one model with its inputs.

        Raises:
            ModelNotFound: There is none.
            WiroError: The call failed.
        """
        answer = await self._transport.call(TOOL_DETAIL, catalogue.detail_payload(slug))
        return catalogue.read_model(answer, slug)

    # -- the client itself -------------------------------------------------------------------------------

    @property
    def base_url(self) -> str:
        """The API's address."""
        return self._config.base_url

    def statistics(self) -> Statistics:
        """Return what the waiting of this client has cost so far, and how late it was to know."""
        gate = self._transport.gate
        return self._shared.schedule.statistics(in_flight=gate.in_flight, waiting=len(self._shared.waiting))

    async def aclose(self) -> None:
        """Wait for Runs that are under way, and close all connections. Safe to repeat."""
        if self._sockets is not None:
            self._sockets.abort_all()
        await self._transport.aclose()
        self._shared.wake()
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


def _sockets(config: Config) -> Sockets | None:
    """Return the client's WebSockets (None: it is to poll)."""
    from wiro_async._watch import pool  # noqa: PLC0415 - clients that go through a proxy need none

    if config.watch == "socket":
        pool.require()
    if not config.socket_known or not pool.available():
        return None
    return pool.Sockets(
        config.socket_url,
        limit=config.limits.max_sockets,
        tasks_per_socket=config.tasks_per_socket,
        connect_timeout=config.limits.connect_timeout,
        user_agent=USER_AGENT,
        tls=make_tls,
    )


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


def _names_callback(inputs: Inputs) -> bool:
    """Whether the callback address is among the inputs."""
    return isinstance(inputs, Mapping) and "callbackUrl" in inputs


def _receiver_of(callback_url: str | None) -> CallbackURL | None:
    """Return the address if one of our own receivers answers there."""
    if callback_url is None:
        return None
    from wiro_async._watch.callbacks import CallbackURL  # noqa: PLC0415 - for those who have callbacks

    return callback_url if isinstance(callback_url, CallbackURL) else None


def check_callback(url: object) -> str:
    """Refuse a callback address that the service could never call."""
    if not isinstance(url, str) or not url.startswith(("http://", "https://")):
        raise InvalidInput(
            "callback_url must be an http or https URL that the service can reach", name="callback_url"
        )
    return url
