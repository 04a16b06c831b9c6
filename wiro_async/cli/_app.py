"""The commands and their options, as ``wiro --help`` shows them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Annotated, Literal, get_args, get_origin

import attrs
import cyclopts
from cyclopts import App, Parameter, validators

from wiro_async import CheckMode, Client, InvalidInput, TaskHandle, __version__
from wiro_async.cli import _batch, _commands, _journal_view
from wiro_async.cli._batch_options import Options
from wiro_async.cli._journal_view import State
from wiro_async.cli._report import Report
from wiro_async.cli._sandbox import serve
from wiro_async.cli._session import Code, Session
from wiro_async.cli._types import Types

__all__ = ["app", "execute"]

_HELP = """\
Images and prompts become videos: the command line of wiro_async.

The keys come from the environment: WIRO_API_KEY and, for signed projects,
WIRO_API_SECRET.

For example:
    wiro demo
    wiro run MiniMax/image-to-video-01-director --download clips \\
        -i inputImageFirstUrl=@photo.jpg -i prompt="[Zoom in] waves roll in"

With --json, amounts are USD as strings, durations are seconds as numbers, and
times are ISO 8601 in UTC; what is not known is null.

Exit codes:
    0    it worked
    1    it did not: refused, not reached, not saved
    2    the command line, an input or a setting cannot work
    3    the task failed; of a batch: not all jobs succeeded
    4    the task was cancelled or killed
    5    the task has not ended within --timeout; it goes on
    6    a run's answer did not arrive: the task may exist and be billed
    7    a run would cost more than --max-cost; or a batch stopped before its
         end: no money, max-cost, breaker, …
    130  interrupted; what goes on is printed, and how to resume it
"""

app = App(
    name="wiro",
    help=_HELP,
    version=__version__,
    help_format="plaintext",
    version_format="plaintext",
    default_parameter=Parameter(negative=(), show_default=False),
)

_POSITIVE = validators.Number(gt=0)

Slug = Annotated[str, Parameter(help="The model, as owner/model; `wiro models` lists them.")]
Inputs = Annotated[
    tuple[str, ...],
    Parameter(
        name=("--input", "-i"),
        help="An input of the model: name=text; name=@path uploads a local file; name=<path reads a "
        "text from one; name:=json for anything else. Repeat it for every input.",
    ),
]
Checked = Annotated[
    bool,
    Parameter(
        negative="--no-check", help="Check the inputs before anything is uploaded or paid for (default: yes)."
    ),
]
Strict = Annotated[bool, Parameter(help="Refuse inputs, too, that the catalogue does not list.")]
DryRun = Annotated[bool, Parameter(help="Check the inputs and estimate the cost; send nothing.")]
Download = Annotated[Path | None, Parameter(help="Save the outputs in this folder.")]
Timeout = Annotated[
    float, Parameter(validator=_POSITIVE, help="Seconds to wait for the task's end (default: 3600).")
]
Interval = Annotated[
    float | None,
    Parameter(validator=_POSITIVE, help="Seconds between two polls of the task, at least (default: 1.5)."),
]
OnCancel = Annotated[
    Literal["keep", "stop"],
    Parameter(help="What to do with the task on Ctrl-C or a timeout (default: keep)."),
]
Limit = Annotated[
    int, Parameter(validator=validators.Number(gte=1), help="How many to list at most (default: 20).")
]
TaskId = Annotated[str | None, Parameter(help="The task's id. Not needed with a token.")]
Token = Annotated[
    str | None,
    Parameter(
        help="The task's socket token, instead of its id. Better set WIRO_TASK_TOKEN: other users of this "
        "machine can read command lines."
    ),
]


Json = Annotated[
    bool, Parameter(help="Write JSON, and nothing else: one document, or a line for each event.")
]


@Parameter(name="*")
@attrs.frozen
class Common:
    """The options that every command has."""

    json: Json = False
    base_url: Annotated[
        str | None, Parameter(help="The API's address (default: WIRO_BASE_URL, or the service's own).")
    ] = None
    proxy: Annotated[
        str | None,
        Parameter(
            help="A proxy: http://host:port, https://host:port or socks5://host:port (default: HTTPS_PROXY, "
            "ALL_PROXY and NO_PROXY). Other users of this machine can read a password in a command line, and "
            "not one in the environment."
        ),
    ] = None

    def session(
        self, timeout: float = 3600.0, interval: float | None = None, folder: Path | None = None
    ) -> Session:
        """Begin a command."""
        return Session(Report(as_json=self.json), self.base_url, timeout, interval, folder, self.proxy)


_COMMON = Common()


def execute(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code."""
    try:
        code = app(arguments, exit_on_error=False, print_error=False, result_action="return_value")
    except cyclopts.CycloptsError as error:
        Report().problem(f"{_told(error)}; `wiro --help` and `wiro COMMAND --help` list the options")
        return Code.USAGE
    except SystemExit as end:
        # The sandbox's own parser ends like this.
        return end.code if isinstance(end.code, int) else Code.OK
    return code if isinstance(code, int) else Code.OK


def _told(error: cyclopts.CycloptsError) -> str:
    """Say what is wrong with a command line; the parser's own words name types of Python."""
    wanted = _wanted(error.target_type) if isinstance(error, cyclopts.CoercionError) else []
    token = error.token if isinstance(error, cyclopts.CoercionError) else None
    if token is None or token.keyword is None or not wanted:
        return str(error).removesuffix(".")
    return f"{token.keyword} is {token.value!r}; it must be {' or '.join(wanted)}"


def _wanted(kind: object) -> list[str]:
    """Return what an option takes, in words."""
    if kind in (int, float):
        return ["a whole number" if kind is int else "a number"]
    if get_origin(kind) is Literal:
        return [repr(value) for value in get_args(kind)]
    return [word for part in get_args(kind) for word in _wanted(part)]


# -- tasks ---------------------------------------------------------------------------------------------------


@app.command
def run(
    model: Slug,
    /,
    *,
    inputs: Inputs = (),
    download: Download = None,
    timeout: Timeout = 3600.0,
    on_cancel: OnCancel = "keep",
    check: Checked = True,
    strict: Strict = False,
    dry_run: DryRun = False,
    interval: Interval = None,
    max_cost: Annotated[
        str | None, Parameter(help="USD that the run may cost, by the catalogue (default: no limit).")
    ] = None,
    allow_unpriced: Annotated[
        bool, Parameter(help="Run it in spite of --max-cost if nobody knows its price.")
    ] = False,
    common: Common = _COMMON,
) -> int:
    r"""Run a model and follow the task to its end. This costs money.

    With --json, the lines are: one of type "submitted", one of type
    "transition" for each status, any number of types "progress" and "line"
    where the service's WebSocket can be listened to, and one of type "result";
    or at last one of type "error" or "interrupted", with the ids of the tasks
    that go on. With --dry-run there is one of type "check".

    For example:
        wiro run MiniMax/image-to-video-01-director --download clips \
            -i inputImageFirstUrl=@photo.jpg -i prompt="[Pan left] a ship sails"
        wiro run owner/model -i prompt="she walks" -i seed:=7 --json
        wiro run owner/model -i prompt="she walks" --dry-run
    """
    session = common.session(timeout, interval, download)
    watching = _commands.Watch(session, download, on_cancel)
    mode: CheckMode = "strict" if check and strict else check
    return session.perform(
        _commands.Run(model, inputs, watching, max_cost, allow_unpriced, check=mode, dry_run=dry_run)
    )


@app.command
def watch(
    task: TaskId = None,
    /,
    *,
    token: Token = None,
    download: Download = None,
    timeout: Timeout = 3600.0,
    interval: Interval = None,
    common: Common = _COMMON,
) -> int:
    """Follow a task that was started before, here or elsewhere.

    Leaving it early leaves the task alone. With --json, the lines are those of
    `wiro run`, but for the first.

    For example:
        wiro watch 2221
        wiro watch 2221 --download clips --json
    """
    session = common.session(timeout, interval, download)
    return _on_task(session, task, token, _commands.Watch(session, download).follow)


@app.command
def status(task: TaskId = None, /, *, token: Token = None, common: Common = _COMMON) -> int:
    """Show a task as it is now.

    The exit code tells whether the call succeeded, not whether the task did.

    For example:
        wiro status 2221
        wiro status 2221 --json
    """
    session = common.session()
    return _on_task(session, task, token, lambda handle: _commands.status(handle, session.report))


@app.command
def tasks(
    *,
    model: Annotated[str | None, Parameter(help="Only tasks of this model.")] = None,
    limit: Limit = 20,
    common: Common = _COMMON,
) -> int:
    """List the project's tasks, the newest first; times are UTC.

    For example:
        wiro tasks
        wiro tasks --model MiniMax/image-to-video-01-director --limit 5
    """
    session = common.session()
    return session.perform(lambda client: _commands.list_tasks(client, model, limit, session.report))


@app.command
def cancel(task: TaskId = None, /, *, token: Token = None, common: Common = _COMMON) -> int:
    """Take a task out of the queue, as long as it has not begun to run.

    For example:
        wiro cancel 2221
    """
    session = common.session()
    return _on_task(session, task, token, lambda handle: _commands.end(handle, "cancel", session.report))


@app.command
def kill(task: TaskId = None, /, *, token: Token = None, common: Common = _COMMON) -> int:
    """End a running task.

    For example:
        wiro kill 2221
    """
    session = common.session()
    return _on_task(session, task, token, lambda handle: _commands.end(handle, "kill", session.report))


@app.command
def stop(task: TaskId = None, /, *, token: Token = None, common: Common = _COMMON) -> int:
    """End a task, queued or running, and see its end.

    For example:
        wiro stop 2221
    """
    session = common.session()
    return _on_task(session, task, token, lambda handle: _commands.end(handle, "stop", session.report))


@app.command
def download(
    task: TaskId = None,
    /,
    *,
    token: Token = None,
    output: Annotated[Path, Parameter(name=("--output", "-o"), help="The folder (default: here).")] = Path(),
    common: Common = _COMMON,
) -> int:
    """Save the outputs of a task that has ended. A download that broke off is resumed.

    For example:
        wiro download 2221 --output clips
    """
    session = common.session()
    return _on_task(session, task, token, lambda handle: _commands.download(handle, output, session.report))


def _on_task(
    session: Session, task: str | None, token: str | None, work: Callable[[TaskHandle], Awaitable[int]]
) -> int:
    """Do *work* on a task that exists. The environment's token is for commands that name no task."""
    if not task and not token:
        token = os.environ.get("WIRO_TASK_TOKEN")

    async def attach(client: Client) -> int:
        if not task and not token:
            raise InvalidInput("which task? Give its id, or set WIRO_TASK_TOKEN to its socket token")
        return await work(client.attach(task, token=token))

    return session.perform(attach)


# -- batches -------------------------------------------------------------------------------------------------

JournalFile = Annotated[Path, Parameter(help="The journal.")]

_OPTIONS = Options()


@app.command
def batch(
    jobs: Annotated[str, Parameter(help="A .jsonl or .csv file; - reads stdin.", allow_leading_hyphen=True)],
    /,
    *,
    journal: Annotated[
        Path | None, Parameter(help="The journal (default: beside the jobs, as NAME.journal.db).")
    ] = None,
    dry_run: Annotated[bool, Parameter(help="Check the jobs and estimate the cost; submit nothing.")] = False,
    options: Options = _OPTIONS,
    interval: Interval = None,
    common: Common = _COMMON,
) -> int:
    """Make many things, each paid for once. This costs money.

    A line of JSON is {"inputs": {...}, "model": "owner/model", "key": "7"}, of
    which only the inputs must be there, or an object of inputs with "model" and
    "key" among them. A CSV file's header names its columns likewise; an empty
    cell is left out. A text that begins with @ is a local file, relative to the
    jobs' folder; @@ stands for one @. An input that is itself called model is
    written inputs.model.

    Every row is checked before the first one is paid for. What happens is in the
    journal: after an interruption, a crash or a power cut the same command, or
    `wiro resume`, goes on, and pays for nothing twice. The first Ctrl-C lets the
    runs that are on their way arrive; a second one ends the command at once.

    With --json, the lines are: one of type "plan", any number of types
    "progress" and "outcome", and one of type "batch", or "interrupted".

    For example:
        wiro batch jobs.csv --model owner/model --download clips --max-cost 25
        wiro batch jobs.jsonl --journal run.db --dry-run
    """
    session = common.session(options.timeout or 3600.0, interval)
    return session.attempt(lambda: _batch.batch(jobs, journal, options, session, dry_run=dry_run))


@app.command
def resume(
    journal: JournalFile,
    /,
    *,
    jobs: Annotated[
        str | None,
        Parameter(help="The job file to go on with (default: the journal's own).", allow_leading_hyphen=True),
    ] = None,
    options: Options = _OPTIONS,
    interval: Interval = None,
    common: Common = _COMMON,
) -> int:
    """Go on with a batch from its journal, whatever ended it. This costs money.

    Running tasks are waited for, lost answers searched for, missing files fetched,
    and jobs that had no run are made. The options are those of the last time,
    but for those that are given now.

    For example:
        wiro resume run.db
        wiro resume run.db --max-cost 50 --retry-failed 2
    """
    session = common.session(options.timeout or 3600.0, interval)
    return session.attempt(lambda: _batch.resume(journal, jobs, options, session))


journals = cyclopts.App(name="journal", help_flags=app.help_flags, help_format=app.help_format)
app.command(journals)


@journals.default
def journal(
    file: JournalFile,
    /,
    *,
    rows: Annotated[State | None, Parameter(help="List the jobs in this state.")] = None,
    failed: Annotated[
        bool, Parameter(help="Write the jobs that failed or were cancelled as a job file.")
    ] = False,
    json: Json = False,
) -> int:
    """Show what a journal says: jobs by state, the cost, and why jobs failed.

    --failed writes the jobs that `wiro resume` does not run again, and no others:
    both can be done, and nothing is paid for twice, as long as that is not given
    more of --retry-failed. The rows keep their keys, so give them a journal of
    their own, as in the example.

    For example:
        wiro journal run.db
        wiro journal run.db --failed > retry.jsonl && wiro batch retry.jsonl
    """
    session = Common(json=json).session()
    if failed:
        work = _journal_view.show_failed(file, session)
    elif rows is not None:
        work = _journal_view.show_rows(file, rows, session.report)
    else:
        work = _journal_view.show_journal(file, session.report)
    return session.attempt(lambda: asyncio.run(work))


@journals.command(name="accept")
def accept_journal(file: JournalFile, /, *, common: Common = _COMMON) -> int:
    """Confirm a journal that a batch refuses, after comparing it with the account.

    It is the way on for a killed journal whose -wal file a program such as sqlite3
    has moved into it, and for an older copy, where the newer one is lost. It
    prints the account's newer tasks that the journal does not know: leave out the
    jobs that they were made for, or these are paid for again.

    For example:
        wiro journal accept run.db
    """
    session = common.session()
    return session.perform(lambda client: _journal_view.accept(client, file, session))


# -- files and models ----------------------------------------------------------------------------------------


@app.command
def upload(
    file: Annotated[Path, Parameter(help="The file, of at most 100 MB.")],
    /,
    *,
    name: Annotated[str | None, Parameter(help="What to call it (default: by its own name).")] = None,
    common: Common = _COMMON,
) -> int:
    """Upload a file and print its URL, to be used as an input of many runs.

    For example:
        wiro run owner/model -i imageUrl="$(wiro upload photo.jpg)" -i prompt=hello
    """
    session = common.session()
    return session.perform(lambda client: _commands.upload(client, file, name, session.report))


@app.command
def models(
    word: Annotated[str, Parameter(help="A word of the model's name or description.")] = "",
    /,
    *,
    category: Annotated[str | None, Parameter(help="Only this category, such as image-to-video.")] = None,
    limit: Limit = 20,
    common: Common = _COMMON,
) -> int:
    """List the models that can be run.

    For example:
        wiro models hailuo
        wiro models --category image-to-video --limit 100
    """
    session = common.session()
    return session.perform(
        lambda client: _commands.list_models(client, word, category, limit, session.report)
    )


@app.command
def model(slug: Slug, /, *, common: Common = _COMMON) -> int:
    """Show what a model does and which inputs it takes.

    For example:
        wiro model MiniMax/image-to-video-01-director
    """
    session = common.session()
    return session.perform(lambda client: _commands.show_model(client, slug, session.report))


@app.command
def types(
    *words: Annotated[str, Parameter(help="Words of the models' names; any will do (default: all models).")],
    output: Annotated[
        Path | None, Parameter(name=("--output", "-o"), help="The file (default: to stdout).")
    ] = None,
    overwrite: Annotated[bool, Parameter(help="Replace the file if it is there.")] = False,
    common: Common = _COMMON,
) -> int:
    """Write typed inputs: a Python class for each model, from its catalogue entry.

    Those of all video models come with the library, in wiro_async.inputs.

    For example:
        wiro types flux seedream -o my_models.py
    """
    session = common.session()
    return session.perform(Types(words, output, overwrite, session.report))


# -- the sandbox ---------------------------------------------------------------------------------------------


@app.command(help_flags=(), version_flags=())
def sandbox(*options: Annotated[str, Parameter(allow_leading_hyphen=True)]) -> int:
    """Serve a local imitation of the service, for trying things out without an account.

    For example:
        wiro sandbox --port 8000 --speed 10
        wiro sandbox --help
    """
    return serve(options)


@app.command
def demo(
    *images: Annotated[Path, Parameter(help="Pictures to start from (default: three that come along).")],
    output: Annotated[
        Path, Parameter(name=("--output", "-o"), help="The folder for the clips (default: demo-clips).")
    ] = Path("demo-clips"),
    json: Annotated[bool, Parameter(help="Write one JSON document, and nothing else.")] = False,
) -> int:
    """Make videos from pictures on a local imitation of the service: no account, no cost.

    Every picture becomes two clips, in one batch; one more job fails and one is
    cancelled, on purpose. The batch is killed in the middle, as by a power cut,
    and resumed from its journal; nothing is paid for twice.

    For example:
        wiro demo
        wiro demo photo.jpg another.png --output clips
    """
    try:
        from wiro_async.cli._demo import run_demo  # noqa: PLC0415 - the extra may be missing
    except ImportError as error:
        Report().problem(str(error))
        return Code.FAILURE
    return run_demo(images, output, Report(as_json=json))
