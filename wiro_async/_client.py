"""The public client: signatures and documentation; the rooms below do the work."""

from __future__ import annotations

import os
from collections.abc import AsyncIterable, Collection, Iterable
from decimal import Decimal
from types import TracebackType
from typing import TYPE_CHECKING, NoReturn, Self, Unpack, final, overload
from urllib.request import getproxies

from wiro_async._config import Config, Limits, Polling, check, check_names, configure, text, truth, usd
from wiro_async._errors import ClientUseError, ConfigurationError, InvalidInput, SubmissionUnknown
from wiro_async._files.inputs import FileSource, TypedInputs
from wiro_async._http.foreign import AsyncTransport, Network
from wiro_async._jobs.job import Inputs, JobState
from wiro_async._jobs.options import DEFAULTS, CallSettings, RunOptions, SubmitOptions
from wiro_async._jobs.pipeline import Pipeline
from wiro_async._jobs.service import Service
from wiro_async._protocol.matching import fingerprint_of
from wiro_async._protocol.records import Model, Task, TaskKey, TaskResult, Upload
from wiro_async._tasks.handle import TaskHandle
from wiro_async._tasks.iterators import Listing
from wiro_async._types import CheckMode, Secret, Watch
from wiro_async._watch.schedule import Statistics

if TYPE_CHECKING:
    import ssl

    from wiro_async._batch.batch import Batch
    from wiro_async._batch.options import BatchOptions, MapOptions
    from wiro_async._batch.source import Jobs
    from wiro_async._jobs.bills import Bills, Spending
    from wiro_async._jobs.checks import Check
    from wiro_async._journal.comparison import JournalComparison

__all__ = ["Client"]


@final
class Client:
    """A client of the Wiro API, for one project, one event loop and one process.

    It starts no background task. ``async with`` closes it at the end of the block; otherwise call
    ``aclose()`` when done. Its repr shows no key.

    Args:
        api_key: The project's key (defaults to ``WIRO_API_KEY``).
        api_secret: The project's secret, for signed projects (defaults to ``WIRO_API_SECRET`` if the key also
            comes from the environment; without a secret, the project is treated as key-only).
        base_url: The API's URL (defaults to ``WIRO_BASE_URL``, then the service's own). Plain http is
            allowed only for loopback addresses, and the hosts of ``allow_http``.
        socket_url: The WebSocket's URL (defaults to ``WIRO_SOCKET_URL``, then the service's own, unless
            ``base_url`` names another service).
        watch: How to notice a task's end: ``"auto"`` uses the WebSocket if the extra ``ws`` is installed, and
            polls otherwise; ``"socket"`` does the same, but raises if the extra is missing; ``"poll"``;
            ``"callback"`` (see ``CallbackReceiver``). On trio, and over your own transport, tasks are polled.
        tasks_per_socket: How many tasks share one WebSocket; use more than 1 only if the service is known to
            allow it.
        check: Whether inputs are checked before anything is uploaded or paid for: against the model's entry
            in the catalogue (asked for once an hour), and local files by themselves. ``"strict"`` refuses
            names, too, that the catalogue does not list, though it is not complete.
        polling: How often waiting tasks are polled.
        limits: Bounds on time and traffic.
        download_hosts: Additional hosts that outputs may be downloaded from, over https.
        transport: An asynchronous transport of httpx or httpx2, which sends the requests instead of our own
            connections, for API calls and downloads; it is closed with the client.
        proxy: The URL of a proxy for everything, WebSockets included: ``http://user:password@host:port``, or
            with ``https`` or ``socks5`` (defaults to ``HTTPS_PROXY``, ``HTTP_PROXY``, ``ALL_PROXY`` and
            ``NO_PROXY``, in capitals or not; this machine itself is never looked for behind those).
        ssl_context: The TLS settings for everything (defaults to certifi's certificates, or to those that
            ``SSL_CERT_FILE`` and ``SSL_CERT_DIR`` name). It must not offer HTTP/2.
        trust_env: Whether the environment may name proxies and certificates.
        allow_http: Hosts beyond this machine that may be spoken to without TLS, keys included: a sandbox in a
            container, never the service (defaults to ``WIRO_ALLOW_HTTP``, names with commas between).
        max_cost: Total USD that all jobs of this client may cost, single calls and batches (None: no limit).
            A call that it does not cover raises ``BudgetExceeded`` before anything is uploaded or sent; a
            batch stops. It is exceeded by at most what the runs in flight cost beyond their estimates. It
            holds for this object's life: another client, or the next process, begins anew.
        budget: The budget's name, such as ``"2026-12"``, for ``spending()``. With a name and without a
            ``max_cost``, what is spent is only added up.
        allow_unpriced: Whether runs of which nobody knows the price may be sent in spite of ``max_cost``.

    Raises:
        ConfigurationError: A value is missing or invalid.
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
        check: CheckMode = True,
        polling: Polling | None = None,
        limits: Limits | None = None,
        download_hosts: Collection[str] = (),
        transport: AsyncTransport | None = None,
        proxy: str | None = None,
        ssl_context: ssl.SSLContext | None = None,
        trust_env: bool = True,
        allow_http: Collection[str] | None = None,
        max_cost: Decimal | float | str | None = None,
        budget: str | None = None,
        allow_unpriced: bool = False,
    ) -> None:
        problem: ConfigurationError | None = None
        try:
            self._config: Config = configure(
                api_key,
                api_secret,
                base_url=base_url,
                socket_url=socket_url,
                download_hosts=download_hosts,
                polling=polling,
                limits=limits,
                environ=os.environ,
                watch=watch,
                tasks_per_socket=tasks_per_socket,
                checks=check,
                allow_http=allow_http,
            )
            network = Network.of(
                transport=transport,
                proxy=proxy,
                ssl_context=ssl_context,
                trust_env=trust_env,
                environment=getproxies(),
                connect_timeout=self._config.limits.connect_timeout,
            )
            bills = _bills(usd(max_cost), budget, allow_unpriced=allow_unpriced)
            self._service: Service = Service.connect(self._config, network, bills)
        except ConfigurationError as error:
            problem = error.with_traceback(None)
        # Some tracebacks print the locals of their frames: keys, and what may be a password in a URL.
        del api_key, api_secret, base_url, socket_url, proxy
        if problem is not None:
            raise problem
        self._pipeline: Pipeline = Pipeline.for_single_calls(self._service)

    # -- one job -----------------------------------------------------------------------------------------

    @overload
    async def submit(self, model: TypedInputs, /, **options: Unpack[SubmitOptions]) -> TaskHandle: ...

    @overload
    async def submit(self, model: str, inputs: Inputs, **options: Unpack[SubmitOptions]) -> TaskHandle: ...

    async def submit(
        self, model: str | TypedInputs, inputs: Inputs | None = None, **options: Unpack[SubmitOptions]
    ) -> TaskHandle:
        """Start one task. **This costs money** when the task succeeds.

        The Run is resent automatically only if the service certainly did not accept it: it waits for a slot
        when as many tasks run as the balance allows, and for a service that cannot be reached. When its
        response is lost, the client searches the service's list for the task for half a minute, and adopts
        it if found. So it returns within ``check_timeout + slot_timeout + 2 * request_timeout +
        settle_timeout`` (see ``Limits``), uploads apart.

        A caller that is cancelled while the Run is in flight gets its cancellation once the response is in
        (after ``Limits.request_timeout`` at the latest); the task is then in ``unclaimed``, or, if the
        outcome is unknown, in ``unresolved``.

        Args:
            model: The slug, ``owner/model``; or typed inputs, which name their model.
            inputs: The model's inputs by name, or typed inputs. Local files (``pathlib.Path``, bytes, an
                open binary file, an upload of a web framework) are uploaded, and replaced by their URLs.
            **options: See ``SubmitOptions``.

        Returns:
            The task's handle.

        Raises:
            InvalidInput: The model or an input cannot be sent, or was refused; all that the check (see
                ``Client``) finds wrong is in one message.
            BudgetExceeded: A ``max_cost``, of this call or the client, does not cover it.
            SubmissionUnknown: The response was lost, and the task not found: it may exist.
            ConcurrencyLimited: No slot became free in time.
            WiroError: The service refused, or was not reached; no task exists.
        """
        if options:
            check_names("submit", options, SubmitOptions)
        return await self._pipeline.submit(
            _job(model, inputs, CallSettings(**options) if options else DEFAULTS)
        )

    @overload
    async def run(self, model: TypedInputs, /, **options: Unpack[RunOptions]) -> TaskResult: ...

    @overload
    async def run(self, model: str, inputs: Inputs, **options: Unpack[RunOptions]) -> TaskResult: ...

    async def run(
        self, model: str | TypedInputs, inputs: Inputs | None = None, **options: Unpack[RunOptions]
    ) -> TaskResult:
        """Start one task and wait for its result. **This costs money** when the task succeeds.

        If ``run()`` is cancelled or can no longer poll its task, the task is in ``unclaimed``.

        Args:
            model: As for ``submit()``.
            inputs: As for ``submit()``.
            **options: See ``RunOptions``.

        Raises:
            TaskFailed: The task ran and failed.
            TaskCancelled: The task was cancelled or killed.
            TaskTimeout: The wait timed out; continue with its ``handle``.
            WiroError: As for ``submit()``.
        """
        if options:
            check_names("run", options, RunOptions)
        return await self._pipeline.run(_job(model, inputs, CallSettings(**options) if options else DEFAULTS))

    async def check(
        self, model: str | TypedInputs, inputs: Inputs | None = None, *, strict: bool = False
    ) -> Check:
        """Check a job as ``submit()`` does, and estimate what it costs. Nothing is uploaded or paid for.

        Args:
            model: As for ``submit()``.
            inputs: As for ``submit()``.
            strict: Whether names that the catalogue does not list are problems.

        Returns:
            The problems and the price. With ``problems``, ``submit()`` would raise ``InvalidInput``.

        Raises:
            InvalidInput: The model or the inputs are none.
            ConfigurationError: *strict* is no bool.
            AuthenticationError: The service rejects our credentials.
        """
        check("strict", strict, truth)
        return await self._pipeline.check(_job(model, inputs, DEFAULTS), strict=strict)

    def attach(self, task_id: str | None = None, *, token: str | Secret | None = None) -> TaskHandle:
        """Return the handle of a task started elsewhere, such as in another process or on another day.

        Nothing is sent until the handle is used.

        Args:
            task_id: The task's id.
            token: Its socket access token, if the id is unknown.

        Raises:
            InvalidInput: Neither was given.
        """
        given: tuple[tuple[str, object, type], ...] = (("task_id", task_id, int), ("token", token, Secret))
        for name, value, also in given:
            if not isinstance(value, str | also | None):  # a token is not shown
                raise InvalidInput(f"{name} is a {type(value).__name__}; it must be a str", name=name)
        secret = Secret(token) if isinstance(token, str) and token else token
        if not task_id and not isinstance(secret, Secret):
            raise InvalidInput("attach() needs the task's id or its token")
        return TaskHandle(self._service.attach(TaskKey(str(task_id) if task_id else None, secret or None)))

    async def reconcile(self, error: SubmissionUnknown) -> TaskHandle:
        """Search again for the task of a Run whose response was lost, even in another process.

        It ends when the task is found, or with the first reading of the service's list that begins after
        ``error.quiet_at``: only that can prove that no task exists. Until then, 85 s after the Run by
        default, it goes on.

        Args:
            error: The error, live or unpickled.

        Returns:
            The task's handle.

        Raises:
            SubmissionUnknown: It was not found; ``absent`` says whether it is proved that there is none.
            InvalidInput: The error is of another kind.
        """
        if not isinstance(error, SubmissionUnknown):
            raise InvalidInput(
                f"reconcile() got a {type(error).__name__}; it searches for the task of a SubmissionUnknown",
                name="error",
            )
        attempt = self._service.runs.find(fingerprint_of(error))
        outcome = await self._service.search.find(attempt, error.cause, proves=True)
        bills = self._service.bills
        if isinstance(outcome, SubmissionUnknown):
            if bills is not None and outcome.absent:
                bills.reconciled(error, None)
            raise outcome
        state = self._service.attach(TaskKey(outcome.id, outcome.token), exists=True)
        if bills is not None:
            state.hold = bills.reconciled(error, outcome.id)
        return TaskHandle(state)

    async def accept_journal(self, path: str | os.PathLike[str]) -> JournalComparison:
        """Confirm that a journal is the one to go on with, after comparing it with the account's tasks.

        It is the way on for a journal that is refused as ``apart`` though nothing is missing from it (a
        program such as sqlite3 has moved its ``-wal`` file into it), and for one that is ``behind`` where the
        newer copy is lost. The tasks that are returned as missing are no reason to stop any more: leave out
        the jobs that they were made for, or these are paid for again.

        Args:
            path: The journal.

        Returns:
            What the account has that the journal does not know.

        Raises:
            ConfigurationError: It is no path.
            JournalError: It cannot be opened, for another reason than these.
            WiroError: The account's tasks could not be read; the journal is as it was.
        """
        return await self._service.accept_journal(path)

    @property
    def unresolved(self) -> tuple[SubmissionUnknown, ...]:
        """Runs with unknown outcomes whose caller was cancelled, for ``reconcile()``; the newest 1 000."""
        return tuple(self._service.unresolved)

    @property
    def unclaimed(self) -> tuple[TaskHandle, ...]:
        """Tasks whose ``submit()`` or ``run()`` was cancelled before it returned; the newest 1 000."""
        return tuple(self._service.unclaimed)

    # -- batches -----------------------------------------------------------------------------------------

    def batch(self, jobs: Jobs = (), **options: Unpack[BatchOptions]) -> Batch:
        """Run many jobs, each paid for once. **This costs money** for every task that succeeds.

        ::

            async with client.batch(jobs, journal="clips.db", max_cost=25, download="clips/") as batch:
                async for outcome in batch:
                    print(outcome.key, outcome.paths or outcome.error)

        With a journal, the same call resumes the batch, however it ended: it skips finished keys, waits for
        running tasks, searches for lost responses, and fetches missing files. Without jobs, it does only
        that.

        Args:
            jobs: ``Job`` records, from any iterable or async iterable; read lazily, as room allows.
            **options: See ``BatchOptions``.

        Raises:
            ConfigurationError: An option is invalid.
        """
        from wiro_async._batch.batch import Batch  # noqa: PLC0415 - for those who have batches
        from wiro_async._batch.options import BatchOptions, BatchSettings  # noqa: PLC0415

        check_names("batch", options, BatchOptions)
        return Batch(self._service, jobs, BatchSettings(**options))

    def map(
        self,
        model: str,
        inputs: Iterable[Inputs] | AsyncIterable[Inputs],
        **options: Unpack[MapOptions],
    ) -> Batch:
        """Run one model on many inputs: ``batch()`` without keys.

        Args:
            model: The slug.
            inputs: Inputs as for ``submit()``, from any iterable or async iterable.
            **options: See ``MapOptions``.
        """
        from wiro_async._batch.batch import as_jobs  # noqa: PLC0415 - for those who have batches
        from wiro_async._batch.options import MapOptions  # noqa: PLC0415 - the same

        check_names("map", options, MapOptions)
        return self.batch(as_jobs(inputs), model=model, **options)

    # -- files -------------------------------------------------------------------------------------------

    async def upload(self, file: FileSource, *, name: str | None = None, folder: str = "") -> Upload:
        """Upload one local file, for use as an input.

        Args:
            file: A path, bytes, an open, seekable binary file, or an upload as FastAPI, Starlette, Django and
                aiohttp give it; at most 100 MB. A file that stands at its end is sent from its beginning.
            name: Its name (defaults to its own name). It is sanitized and made unique.
            folder: The service's id of the target folder.

        Returns:
            The service's record; pass its ``url`` as an input.

        Raises:
            InvalidInput: The file cannot be read, is empty, or is too large. Nothing was sent.
            WiroError: The service refused, or was not reached.
        """
        return await self._service.uploader.upload(file, name, folder)

    # -- what there is -----------------------------------------------------------------------------------

    def list_tasks(self, *, model: str | None = None, limit: int | None = None) -> Listing[Task]:
        """Iterate over the project's tasks, newest first: ``async for task in client.list_tasks(limit=20)``.

        Args:
            model: Only tasks of this model.
            limit: The maximum number to return (None: all).

        Raises:
            InvalidInput: The limit is invalid.
            WiroError: While iterating: a call failed.
        """
        return self._service.list_tasks(model, limit)

    def list_models(
        self, search: str = "", *, category: str | None = None, limit: int | None = None
    ) -> Listing[Model]:
        """Iterate over the catalogue's models, as ``list_tasks()`` does over tasks.

        Args:
            search: A word in the name or description ("" for all).
            category: Such as ``image-to-video``.
            limit: The maximum number to return (None: all).

        Raises:
            InvalidInput: The limit is invalid.
            WiroError: While iterating: a call failed.
        """
        return self._service.list_models(search, category, limit)

    async def get_model(self, slug: str) -> Model:
        """Return one model with its inputs.

        Raises:
            ModelNotFound: There is no such model.
            WiroError: The call failed.
        """
        return await self._service.catalogue.ask(slug)

    # -- the client itself -------------------------------------------------------------------------------

    def spending(self) -> Spending:
        """Return what this client's jobs have cost so far, and what is reserved for those in flight.

        Until the service has recorded a charge, the estimate counts. It is settled by whatever reads the task
        then: ``handle.refresh()``, a batch, or ``list_tasks()``.

        Raises:
            ClientUseError: The client has neither a ``max_cost`` nor a ``budget``, so nothing was counted.
        """
        if self._service.bills is None:
            raise ClientUseError(
                "this client adds up no costs; give it max_cost=, or budget= with a name to count without a "
                "limit"
            )
        return self._service.bills.spending()

    @property
    def base_url(self) -> str:
        """The API's URL, without a trailing slash."""
        return self._config.base_url

    def statistics(self) -> Statistics:
        """Return this client's poll counts so far, and how late it noticed ends."""
        gate = self._service.transport.gate
        return self._service.tasks.schedule.statistics(in_flight=gate.in_flight, waiting=gate.waiting)

    async def aclose(self) -> None:
        """Wait for Runs in flight, and close all connections. Safe to repeat."""
        await self._service.aclose()

    async def __aenter__(self) -> Self:
        """Return the client.

        Raises:
            ClientUseError: It is closed.
        """
        # Nothing is bound to this event loop and process before the first call.
        self._service.transport.check_open()
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
        raise ClientUseError("a Client cannot be pickled: it holds credentials; make one where you need it")


def _bills(max_cost: Decimal | None, budget: str | None, *, allow_unpriced: bool) -> Bills | None:
    """Return what adds up a client's costs (None: nobody asked for that).

    Raises:
        ConfigurationError: An argument is invalid.
    """
    check("budget", budget, text)
    check("allow_unpriced", allow_unpriced, truth)
    if max_cost is None and budget is None:
        return None
    from wiro_async._jobs.bills import Bills  # noqa: PLC0415 - for those who have a budget

    return Bills(max_cost, budget or "", allow_unpriced=allow_unpriced)


def _job(model: str | TypedInputs, inputs: Inputs | None, settings: CallSettings) -> JobState:
    """Work out which argument holds the model and the inputs."""
    if isinstance(model, str):
        if inputs is None:
            raise InvalidInput(
                f"no inputs for {model[:60]!r}; give a mapping, {{}} if it takes none", name="inputs"
            )
        return JobState(model, inputs, settings)
    if inputs is None and isinstance(model, TypedInputs):
        return JobState(model.model, model, settings)
    raise InvalidInput(
        f"the model is a {type(model).__name__}; the model comes first, as owner/model, then the inputs; "
        f"only typed inputs may omit it",
        name="model",
    )
