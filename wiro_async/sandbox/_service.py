"""The operations of the service, each one synchronous step over the engine."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable
from typing import Any, TypeAlias

import attrs

from wiro_async.sandbox import _documented
from wiro_async.sandbox._access import Access
from wiro_async.sandbox._auth import Gate, Project
from wiro_async.sandbox._body import Fields, Upload
from wiro_async.sandbox._callbacks import Callbacks
from wiro_async.sandbox._catalogue import Catalogue, Model
from wiro_async.sandbox._cdn import Store
from wiro_async.sandbox._config import SandboxConfig
from wiro_async.sandbox._directives import Directives, read_directives
from wiro_async.sandbox._engine import Engine, Order, Task
from wiro_async.sandbox._files import Folders
from wiro_async.sandbox._refusal import Refusal, bad_request, not_found
from wiro_async.sandbox._renderer import Renderer, complaint
from wiro_async.sandbox._replies import file_json, task_json, tool_json
from wiro_async.sandbox._scheduler import Scheduler
from wiro_async.sandbox._sockets import Sockets
from wiro_async.sandbox._validation import check_inputs, image_source
from wiro_async.sandbox.faults import FaultPlan

__all__ = ["LIST_LAG", "Operation", "Reply", "Service"]

Reply: TypeAlias = dict[str, Any]
Operation: TypeAlias = Callable[[Project, Fields], Reply]

LIST_LAG = "x-sandbox-list-lag"
"""The header by which the fault layer hides tasks younger than so many seconds from Task/List."""

# Sent with a Run, but no input of any model.
_NOT_INPUTS = frozenset({"callbackUrl", "projectid"})


class Service:
    """The operations of the service, each a synchronous step over the engine.

    Args:
        config: How the sandbox behaves.
        catalogue: The models.
        clock: Gives the time in unix seconds.
        plan: What goes wrong with callbacks; None: nothing does.
        control_token: What the sandbox's own switches ask for; "" makes one up.

    Attributes:
        control_token: The same.
        access: Who may come in, and where the sandbox may go.
        engine: The tasks and the account.
        store: The CDN's files.
        renderer: What makes them.
        scheduler: Says when something is due for a task.
        sockets: The WebSockets.
        callbacks: What is sent to callback URLs.
        list_lag: Tasks younger than this many seconds are hidden from the current request's Task/List.
        origin: Where the service is reached, such as ``http://127.0.0.1:8000``; set once that is known.
        restart_work: Lets the application's background work begin anew; set by whoever does it.
    """

    def __init__(
        self,
        config: SandboxConfig,
        catalogue: Catalogue,
        clock: Callable[[], float],
        plan: FaultPlan | None = None,
        *,
        control_token: str = "",
    ) -> None:
        self.config: SandboxConfig = config
        self.catalogue: Catalogue = catalogue
        self.clock: Callable[[], float] = clock
        self.control_token: str = control_token or secrets.token_urlsafe(24)
        self.access: Access = Access(config.allow_host, config.allow_fetch, self.control_token)
        self.origin: str = "http://sandbox.invalid"
        self.restart_work: Callable[[], None] = lambda: None
        self._plan: FaultPlan | None = plan
        self._begin()
        self._operations: dict[str, Operation] = {
            "Task/Detail": self._detail,
            "Task/Cancel": self._cancel,
            "Task/Kill": self._kill,
            "Task/List": self._list,
            "Task/InputOutputDelete": self._delete,
            "File/Upload": self._upload,
            "File/FolderCreate": self._create_folder,
            "Tool/List": self._tools,
            "Tool/Detail": self._tool,
            "Tool/Explore": self._explore,
        }

    def _begin(self) -> None:
        """Make all that a task, a file or a request leaves a trace in."""
        config, clock = self.config, self.clock
        self.engine: Engine = Engine(
            balance=config.balance,
            speed=config.speed,
            seed=config.seed,
            concurrency_limit=config.concurrency_limit,
            queue_mean=config.queue_mean,
            run_sigma=config.run_sigma,
            order=config.order,
            error_seconds=config.error_seconds,
            charge_stopped=config.charge_stopped,
            stopped_form=config.stopped_form,
            first_task_id=_documented.FIRST_FREE_ID if config.documented else config.first_task_id,
        )
        self.store: Store = Store(config.store_limit)
        self.renderer: Renderer = Renderer(
            self.engine,
            self.store,
            clock,
            config.seed,
            lambda: self.cdn_url,
            may_reach=self.access.may_reach,
            fetch_timeout=config.receive_timeout,
            mislabel=config.mislabel,
        )
        self.scheduler: Scheduler = Scheduler(clock)
        self.engine.listeners.append(self.scheduler.changed)
        self.sockets: Sockets = Sockets(
            config,
            self.engine,
            self.scheduler,
            clock,
            cdn_url=lambda: self.cdn_url,
            access=self.access,
        )
        self.callbacks: Callbacks = Callbacks(
            self.engine,
            self.scheduler,
            clock,
            self._show,
            may_reach=self.access.may_reach,
            shape=config.callback_shape,
            pause=config.callback_pause,
            timeout=config.callback_timeout,
            plan=self._plan,
        )
        self.gate: Gate = Gate(
            {config.api_key: config.api_secret, **config.projects}, strict_nonce=config.strict_nonce
        )
        self.folders: Folders = Folders(config.seed)
        if config.documented:
            _documented.plant(self.engine, self.catalogue, self.gate.first_project_id, clock())
            path, contenttype, _ = _documented.PICTURE
            self.store.put(path, _documented.picture(), contenttype, clock())
        self.list_lag: float = 0.0

    def reset(self) -> Callable[[], None]:
        """Begin anew, as at the start: no task, no file, no entry in the books. From any thread.

        Returns:
            What is left to be done in the server's thread: the end of WebSockets, timers and work of before.
        """
        with self.engine.lock:  # no operation is under way
            sockets, scheduler = self.sockets, self.scheduler
            self._begin()

        def finish() -> None:
            sockets.cut()
            scheduler.stop()
            self.scheduler.start()
            self.restart_work()

        return finish

    @property
    def cdn_url(self) -> str:
        """What the URLs of files begin with."""
        return f"{self.origin}/cdn"

    def ledger(self) -> Reply:
        """The books: those of the account, what became of callbacks, and what WebSockets there were."""
        books = self.engine.ledger(self.clock())
        tasks = books.pop("tasks")
        return books | {
            "callbacks": self.callbacks.ledger(),
            "sockets": self.sockets.ledger(),
            "tasks": tasks,
        }

    def operation(self, parts: list[str]) -> tuple[str, Operation] | None:
        """The operation that a path's segments below ``/v1`` name, and the name to count it under."""
        if len(parts) == 3 and parts[0] == "Run":
            return "Run", lambda project, fields: self._run(project, fields, parts[1], parts[2])
        name = "/".join(parts)
        operation = self._operations.get(name)
        return None if operation is None else (name, operation)

    # -- Run -------------------------------------------------------------------------------------

    def _run(self, project: Project, fields: Fields, owner: str, name: str) -> Reply:
        model = self.catalogue.find(owner, name)
        check_inputs(model, fields, form_defaults=self.config.form_defaults)
        prompt = str(fields.get("prompt") or "")
        try:
            directives = self._completed(read_directives(prompt))
        except ValueError as error:
            raise bad_request(str(error)) from None
        self.engine.check_funds(self.clock())
        parameters = {key: self._published(value) for key, value in fields.items() if key not in _NOT_INPUTS}
        instant = not (self.config.render and model.makes_video)
        order = Order(
            project_id=project.id,
            model=model,
            parameters=parameters,
            price=model.price(self.config.price),
            run_median=model.typical_seconds if self.config.run_median is None else self.config.run_median,
            directives=directives,
            callback_url=str(fields.get("callbackUrl") or ""),
            products=[self.renderer.stand_in(model, directives.prompt)] if instant else None,
            failure=complaint(image_source(model, parameters)) if model.makes_video else None,
        )
        task = self.engine.run(order, self.clock())
        if order.callback_url:
            self.callbacks.expect(task)
        self.renderer.poke()
        return {"taskid": task.id, "socketaccesstoken": task.token}

    def _completed(self, told: Directives) -> Directives:
        """What a prompt does not say is as the sandbox was told."""
        config = self.config
        return attrs.evolve(
            told,
            after=config.after_error if told.after is None else told.after,
            late=config.charge_delay if told.late is None else told.late,
            bare=config.bare_seconds if told.bare is None else told.bare,
            nofiles=config.nofiles_seconds if told.nofiles is None else told.nofiles,
        )

    def _published(self, value: Any) -> Any:
        """An input as tasks show it: a file is replaced by its URL."""
        if isinstance(value, list):
            return [self._published(each) for each in value]
        if isinstance(value, Upload):
            product = self.renderer.keep(value.name or "input", value.contenttype, value.data)
            return f"{self.cdn_url}/{product.path}"
        return value

    # -- Task ------------------------------------------------------------------------------------

    def _detail(self, project: Project, fields: Fields) -> Reply:
        now = self.clock()
        self.renderer.poke_if_due(now)
        task = self._find(project, fields, ("taskid", "tasktoken"), "There is no task yet.", _UNNAMED)
        task.details += 1
        return {"total": "1", "tasklist": [self._show(task, now, short=task.order.directives.short)]}

    def _cancel(self, project: Project, fields: Fields) -> Reply:
        task = self._find(project, fields, ("taskid",), "task-not-exist", _required("taskid"))
        now = self.clock()
        return {"tasklist": [self._show(self.engine.cancel(task, now), now)]}

    def _kill(self, project: Project, fields: Fields) -> Reply:
        if self.config.kill_by_tasktoken and fields.get("tasktoken"):
            fields = {"socketaccesstoken": fields["tasktoken"], **fields}
        task = self._find(project, fields, ("taskid", "socketaccesstoken"), "task-not-exist", _UNNAMED)
        now = self.clock()
        return {"tasklist": [self._show(self.engine.kill(task, now), now)]}

    def _list(self, project: Project, fields: Fields) -> Reply:
        now = self.clock()
        wanted = str(fields.get("modelName") or "").lower()
        tasks = [
            task
            for task in self.engine.tasks(now, project_id=project.id)
            if wanted in f"{task.order.model.slug} {task.order.model.title}".lower()
            and task.created <= now - self.list_lag
        ]
        if not tasks:
            raise not_found("There is no task yet.")
        if str(fields.get("order") or "DESC").upper() == "ASC":
            tasks.reverse()
        page = tasks[_page(fields)]
        return {"total": str(len(tasks)), "tasklist": [self._show(task, now) for task in page]}

    def _delete(self, project: Project, fields: Fields) -> Reply:
        task = self._find(project, fields, ("taskid", "tasktoken"), "task-not-exist", _required("tasktoken"))
        for output in self.engine.forget_outputs(task, self.clock()):
            self.store.remove(output.path)
        return {}

    def _find(
        self, project: Project, fields: Fields, names: tuple[str, ...], missing: str, unnamed: str
    ) -> Task:
        """The task that a request names, by its id (the first name) or by its token.

        Raises:
            Refusal: *unnamed* for a request that names none, *missing* where there is no such task.
        """
        given = [str(fields[name]) if fields.get(name) else None for name in names]
        if not any(given):
            raise bad_request(unnamed)
        task_id, token = (*given, None)[:2]
        task = self.engine.find(self.clock(), task_id=task_id, token=token, project_id=project.id)
        if task is None:
            raise not_found(missing)
        return task

    def _show(self, task: Task, now: float, *, short: bool = False) -> Reply:
        reply = task_json(task, now, cdn_url=self.cdn_url, short=short)
        for output in reply["outputs"]:
            self._falsify(output, task.details)
        reply[self.config.outputs_name] = reply.pop("outputs")
        return reply

    def _falsify(self, output: Reply, look: int) -> None:
        if self.config.moving_urls and "url" in output:
            output["url"] += f"?look={look}"
        match self.config.record_size:
            case "zero":
                output["size"] = "0"
            case "none":
                output.pop("size", None)
            case "larger" | "smaller" as how if "size" in output:
                output["size"] = str(int(output["size"]) + (1 if how == "larger" else -1))

    # -- File ------------------------------------------------------------------------------------

    def _upload(self, project: Project, fields: Fields) -> Reply:
        del project
        upload, folder = fields.get("file"), str(fields.get("folderid") or "")
        if not isinstance(upload, Upload):
            raise bad_request("Request files [file] required")
        if len(upload.data) > _MAX_FILE:
            raise bad_request("Request parameters are invalid.")
        self.folders.check(folder, upload.name)
        product = self.renderer.keep(upload.name, upload.contenttype, upload.data)
        file = self.folders.add(folder, product, self.clock())
        return {"list": [file_json(file, cdn_url=self.cdn_url)]}

    def _create_folder(self, project: Project, fields: Fields) -> Reply:
        del project
        name, parent = str(fields.get("name") or ""), str(fields.get("parentid") or "")
        if not name:
            raise bad_request(_required("name"))
        if _FOLDER_NAME.fullmatch(name) is None:
            raise bad_request()
        folder = self.folders.create(name, parent)
        return {
            "list": [
                {
                    "id": folder,
                    "name": name,
                    "parentid": parent,
                    "size": "0",
                    "contenttype": "",
                    "addedtime": str(int(self.clock())),
                }
            ]
        }

    # -- Tool ------------------------------------------------------------------------------------

    def _tools(self, project: Project, fields: Fields) -> Reply:
        del project
        models = self.catalogue.search(
            text=str(fields.get("search") or ""),
            owner=str(fields.get("slugowner") or ""),
            categories=_words(fields.get("categories")),
            tags=_words(fields.get("tags")),
        )
        # From the newest on, as told: the ids rise with the catalogue's order.
        if str(fields.get("sort") or "") == "id" and str(fields.get("order") or "DESC").upper() == "DESC":
            models.reverse()
        shown = [self._show_tool(model) for model in models[_page(fields)]]
        return {"total": len(models), "tool": shown}

    def _explore(self, project: Project, fields: Fields) -> Reply:
        """A few models of each category, as a start page shows them."""
        del project, fields
        shelves: dict[str, list[Model]] = {}
        for model in self.catalogue.models:
            shelves.setdefault(model.category, []).append(model)
        return {
            "explore": [
                {
                    "id": str(number),
                    "title": category,
                    "total": len(models),
                    "tools": [self._show_tool(model) for model in models[:_ON_A_SHELF]],
                }
                for number, (category, models) in enumerate(shelves.items(), 1)
            ]
        }

    def _tool(self, project: Project, fields: Fields) -> Reply:
        del project
        owner, name = str(fields.get("slugowner") or ""), str(fields.get("slugproject") or "")
        try:
            model = self.catalogue.find(owner, name)
        except Refusal:
            raise not_found("tool-not-accessible") from None
        return {"total": 1, "tool": [self._show_tool(model, detail=True)]}

    def _show_tool(self, model: Model, *, detail: bool = False) -> Reply:
        config = self.config
        listed = config.price if config.listed_price is None else config.listed_price
        return tool_json(model, price=model.price(listed), detail=detail)


_MAX_FILE = 100 * 1024 * 1024

_FOLDER_NAME = re.compile(r"[A-Za-z0-9_-]+")
"""What the documentation allows in the name of a folder."""

_ON_A_SHELF = 10
"""How many models of a category Tool/Explore shows."""

_UNNAMED = "taskid or socketaccesstoken is required"


def _required(name: str) -> str:
    return f"Request parameter [{name}] required"


def _words(value: Any) -> list[str]:
    """A filter's words: a list in JSON; in a form a text, of JSON or of one word."""
    if isinstance(value, str) and value.startswith("["):
        try:
            value = json.loads(value)
        except ValueError:
            raise bad_request() from None
    words = value if isinstance(value, list) else [value]
    return [str(word) for word in words if word is not None and word != ""]


def _page(fields: Fields) -> slice:
    """The part of a list that was asked for; twenty entries unless told otherwise."""
    try:
        start, limit = int(str(fields.get("start") or 0)), int(str(fields.get("limit") or 20))
    except ValueError:
        raise bad_request() from None
    if start < 0 or limit < 0:
        raise bad_request()
    return slice(start, start + limit)
