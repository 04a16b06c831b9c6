"""The service's operations over HTTP: paths, envelope, messages, and the sandbox's own switches."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import anyio
import attrs
import httpx
import pytest

from wiro_async.sandbox import SandboxConfig
from wiro_async.sandbox._app import build_app
from wiro_async.sandbox._catalogue import Catalogue
from wiro_async.sandbox._service import Service

CATALOGUE = Catalogue.load()
DIRECTOR = "/v1/Run/MiniMax/image-to-video-01-director"
IMAGE = {"inputImageFirstUrl": "https://example.com/a.jpg"}
KEY = {"x-api-key": "open"}
Reply = dict[str, Any]


class Rig:
    """A sandbox in process, on a clock that stands still until it is moved."""

    def __init__(self, **options: Any) -> None:
        self.now = 1_734_513_807.5
        config = SandboxConfig(
            api_key="open", api_secret=None, projects={"other": None}, render=False, allow_host=["sandbox"]
        )
        config = attrs.evolve(config, **options)
        self.service = Service(config, CATALOGUE, lambda: self.now)
        self.service.origin = "http://sandbox"
        transport = httpx.ASGITransport(build_app(self.service))
        self.http = httpx.AsyncClient(
            transport=transport,
            base_url="http://sandbox",
            headers={**KEY, "x-sandbox-token": self.service.control_token},
        )

    async def post(self, path: str, body: Any = None, **options: Any) -> Reply:
        """Call an operation with a JSON body."""
        reply: Reply = (await self.http.post(path, json={} if body is None else body, **options)).json()
        return reply

    async def run(self, prompt: str = "she walks", path: str = DIRECTOR) -> Reply:
        """Submit a job that is accepted."""
        reply = await self.post(path, {**IMAGE, "prompt": prompt})
        assert reply["result"] is True
        return reply

    async def detail(self, task: Reply) -> Reply:
        """The task, as Detail shows it."""
        detail: Reply = (await self.post("/v1/Task/Detail", {"taskid": task["taskid"]}))["tasklist"][0]
        return detail


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    """A key-only project on a sandbox without rendering."""
    rig = Rig()
    async with rig.http:
        yield rig


def error(code: int, message: str) -> Reply:
    """The envelope of a refusal."""
    return {"result": False, "errors": [{"code": code, "message": message}]}


# -- paths and envelope ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/Task/Detail"),
        ("PUT", DIRECTOR),
        ("POST", "/v1/Task/Details"),
        ("POST", "/v1/Run/MiniMax"),
        ("POST", "/v1/Run/a/b/c"),
        ("POST", "/v1"),
        ("GET", "/"),
        ("POST", "/sandbox/nothing"),
    ],
)
async def test_other_paths_and_methods_do_not_exist(rig: Rig, method: str, path: str) -> None:
    """With 404, in the service's words."""
    reply = await rig.http.request(method, path, headers={"content-type": "application/json"})
    assert (reply.status_code, reply.json()) == (404, error(0, "Error parsing url."))


async def test_a_refusal_comes_with_status_200(rig: Rig) -> None:
    """Only authentication and unknown paths have another one."""
    reply = await rig.http.post("/v1/Task/Detail", json={"taskid": "1"})
    assert (reply.status_code, reply.json()) == (200, error(1, "There is no task yet."))
    reply = await rig.http.post("/v1/Task/Detail", json={}, headers={"x-api-key": "wrong"})
    assert (reply.status_code, reply.json()) == (401, error(0, "Project authorization is not founded."))


async def test_a_client_that_leaves_is_not_answered() -> None:
    """An incomplete request ends without a reply and without an error."""
    sent: list[Any] = []

    async def receive() -> Reply:
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/v1/Tool/List",
        "raw_path": b"/v1/Tool/List",
        "headers": [],
    }
    await build_app(Rig().service)({**scope, "query_string": b""}, receive, send)
    assert sent == []


# -- Run -------------------------------------------------------------------------------------------


async def test_run_answers_with_an_id_and_a_token(rig: Rig) -> None:
    """And with nothing else; ids count up."""
    first, second = await rig.run(), await rig.run()
    assert set(first) == {"errors", "taskid", "socketaccesstoken", "result"}
    assert [first["taskid"], second["taskid"]] == ["2221", "2222"]
    assert len(first["socketaccesstoken"]) == 30


@pytest.mark.parametrize(
    "path",
    [
        "/v1/Run/wiro/Product%20Photoshoot",
        "/v1/Run/wiro/product-photoshoot",
        "/v1/Run/MiniMax/hailuo-2.3",
        "/v1/Run/lightricks/%20ltx-2-distilled",
    ],
)
async def test_slugs_are_taken_as_they_are_and_clean(rig: Rig, path: str) -> None:
    """With dots, case and encoded spaces."""
    body = {**IMAGE, "inputImage": "https://example.com/a.jpg"}
    assert (await rig.post(path, body))["result"] is True


@pytest.mark.parametrize("path", ["/v1/Run/MiniMax/nothing", "/v1/Run/MiniMax%2Fhailuo-2.3/x"])
async def test_an_unknown_model_is_refused(rig: Rig, path: str) -> None:
    """An encoded slash does not separate owner and name."""
    assert await rig.post(path, IMAGE) == error(1, "slug-owner-project-not-exist")


async def test_inputs_are_validated(rig: Rig) -> None:
    """A missing image, and a directive that does not exist, cost nothing."""
    assert await rig.post(DIRECTOR, {}) == error(0, "Request parameter [inputImageFirstUrl] required")
    reply = await rig.post(DIRECTOR, {**IMAGE, "prompt": "[sandbox:explode]"})
    assert "is not a directive" in reply["errors"][0]["message"]
    assert rig.service.engine.ledger(rig.now)["runs"] == 0


async def test_files_and_forms_are_taken(rig: Rig) -> None:
    """A file among the inputs is shown as a URL, under which it can be read."""
    reply = await rig.http.post(
        DIRECTOR, data={"prompt": "p", "callbackUrl": "http://me"}, files={"inputImage": ("a b.png", b"PNG")}
    )
    task = await rig.detail(reply.json())
    url = task["parameters"]["inputImage"]
    assert (task["parameters"]["prompt"], task["callbackurl"]) == ("p", "http://me")
    assert (await rig.http.get(url)).content == b"PNG"
    several = {"inputImage": [("1.png", b"1"), ("2.png", b"2")]}
    reply = await rig.http.post(DIRECTOR, files=[("inputImage", file) for file in several["inputImage"]])
    urls = (await rig.detail(reply.json()))["parameters"]["inputImage"]
    assert [(await rig.http.get(url)).content for url in urls] == [b"1", b"2"]


async def test_limits_are_enforced_before_a_file_is_kept() -> None:
    """Codes 97 and 96, with the documented text."""
    rig = Rig(balance=10)
    async with rig.http:
        await rig.run()
        assert (await rig.post(DIRECTOR, IMAGE))["errors"][0]["code"] == 96
        assert (await rig.post("/sandbox/balance", {"balance": 0}))["balance"] == "0.0"
        assert await rig.post(DIRECTOR, IMAGE) == error(97, "Insufficient balance")
        assert rig.service.engine.ledger(rig.now)["refused"] == {"96": 1, "97": 1}


@pytest.mark.parametrize(
    ("path", "name", "contenttype"),
    [
        (DIRECTOR, "0.mp4", "video/mp4"),
        ("/v1/Run/MiniMax/text-to-video-hailuo-01", "0.mp4", "video/mp4"),
        ("/v1/Run/google/nano-banana", "0.png", "image/png"),
        ("/v1/Run/nvidia/nemotron", "0.txt", "text/plain"),
    ],
)
async def test_every_kind_of_model_has_outputs(rig: Rig, path: str, name: str, contenttype: str) -> None:
    """Stand-ins of the right kind, of the size that is stated."""
    task = await rig.run(path=path)
    rig.now += 1e4
    output = (await rig.detail(task))["outputs"][0]
    assert (output["name"], output["contenttype"]) == (name, contenttype)
    reply = await rig.http.get(output["url"], headers={"x-api-key": ""})
    assert (str(len(reply.content)), reply.headers["content-type"]) == (output["size"], contenttype)


async def test_a_language_model_answers_in_the_record(rig: Rig) -> None:
    """Its output is no file: prompt, thoughts and answer apart, and all of them in the log."""
    task = await rig.run("why?", path="/v1/Run/openai/gpt-5-mini")
    rig.now += 1e4
    detail = await rig.detail(task)
    (output,) = detail["outputs"]
    assert (output["contenttype"], set(output)) == ("raw", {"contenttype", "content"})
    said = output["content"]
    assert (said["prompt"], len(said["thinking"]), len(said["answer"])) == ("why?", 1, 1)
    assert "why?" in said["answer"][0]
    assert said["raw"] == detail["debugoutput"] == "\n".join([*said["thinking"], *said["answer"]])
    token = {"tasktoken": task["socketaccesstoken"]}
    assert (await rig.post("/v1/Task/InputOutputDelete", token))["result"] is True
    assert (await rig.detail(task))["outputs"] == []


async def test_kill_takes_tasktoken_where_that_was_asked_for() -> None:
    """An early page of the documentation had it so."""
    rig = Rig(kill_by_tasktoken=True)
    async with rig.http:
        task = await rig.run("[sandbox:hang]")
        rig.now += 1e4
        killed = await rig.post("/v1/Task/Kill", {"tasktoken": task["socketaccesstoken"]})
        assert killed["tasklist"][0]["status"] == "task_cancel"


async def test_stopped_tasks_can_have_the_documented_form() -> None:
    """With exit code, outputs and, where a killed one is charged, its cost; usually they have nothing."""
    for form in ("bare", "documented"):
        rig = Rig(stopped_form=form, charge_stopped=form == "documented")
        async with rig.http:
            task = await rig.run("[sandbox:hang]")
            rig.now += 1e4
            killed = (await rig.post("/v1/Task/Kill", {"taskid": task["taskid"]}))["tasklist"][0]
            assert killed["status"] == "task_cancel"
            told = (killed["pexit"], len(killed["outputs"]), killed["totalcost"] != "0")
            assert told == {"bare": ("", 0, False), "documented": ("0", 1, True)}[form]


@pytest.mark.parametrize("says", ["true", "zero", "none", "larger", "smaller"])
async def test_records_can_be_wrong_about_sizes(says: str) -> None:
    """By a byte, or by all of them, or they say nothing; the file itself is whole. An answer has no size."""
    rig = Rig(record_size=says)
    async with rig.http:
        tasks = [await rig.run(), await rig.run(path="/v1/Run/google/gemini-3-flash")]
        rig.now += 1e4
        (file,), (answer,) = [(await rig.detail(task))["outputs"] for task in tasks]
        whole = len((await rig.http.get(file["url"])).content)
        told = {"true": whole, "zero": 0, "larger": whole + 1, "smaller": whole - 1}
        assert file.get("size") == (None if says == "none" else str(told[says]))
        assert "content" in answer


async def test_addresses_can_move() -> None:
    """At each look; the file is at all of them."""
    rig = Rig(moving_urls=True)
    async with rig.http:
        task = await rig.run()
        rig.now += 1e4
        urls = [(await rig.detail(task))["outputs"][0]["url"] for _ in range(2)]
        assert len(set(urls)) == 2
        first, second = [(await rig.http.get(url)).content for url in urls]
        assert first == second != b""


@pytest.mark.parametrize(
    ("path", "claim"),
    [
        (DIRECTOR, "video/webm"),
        ("/v1/Run/AIDC-AI/Ovis-Image-7B", "image/jpeg"),
    ],
)
async def test_files_can_claim_to_be_what_they_are_not(path: str, claim: str) -> None:
    """In the record and on the CDN."""
    rig = Rig(mislabel=True)
    async with rig.http:
        task = await rig.run(path=path)
        rig.now += 1e4
        (file,) = (await rig.detail(task))["outputs"]
        served = await rig.http.get(file["url"])
        assert file["contenttype"] == served.headers["content-type"] == claim
        assert file["name"] == {"video/webm": "0.webm", "image/jpeg": "0.jpg"}[claim]
        assert b"ftyp" in served.content[:12] or served.content.startswith(b"\x89PNG")


async def test_the_catalogue_can_list_another_price() -> None:
    """The books have the true one."""
    rig = Rig(price=0.35, listed_price=0.5)
    async with rig.http:
        await rig.run()
        rig.now += 1e4
        owner, name = DIRECTOR.split("/")[-2:]
        reply = await rig.post("/v1/Tool/Detail", {"slugowner": owner, "slugproject": name})
        assert json.loads(reply["tool"][0]["dynamicprice"])[0]["price"] == 0.5
        assert rig.service.ledger()["charged"] == "0.350000000000"


async def test_a_required_input_is_required_in_spite_of_a_default() -> None:
    """Unless the sandbox is told to take the default of the service's page."""
    for form_defaults in (False, True):
        rig = Rig(form_defaults=form_defaults)
        async with rig.http:
            reply = await rig.post("/v1/Run/google/gemini-3-flash", {})
            assert reply["result"] is form_defaults


async def test_the_run_takes_as_long_as_was_asked_for() -> None:
    """``run_median`` overrides what the model would take."""
    rig = Rig(run_median=0.0, queue_mean=0.0)
    async with rig.http:
        task = await rig.run()
        rig.now += 2.5
        detail = await rig.detail(task)
        assert (detail["status"], detail["cps"]) == ("task_postprocess_end", "0.000000000000")


# -- Task ------------------------------------------------------------------------------------------


async def test_detail_in_the_long_form(rig: Rig) -> None:
    """Scalars are strings, times whole seconds, categories a JSON text."""
    task = await rig.run()
    queued = await rig.detail(task)
    assert (queued["status"], queued["createtime"], queued["starttime"]) == ("task_queue", "1734513807", "0")
    assert (queued["pexit"], queued["totalcost"], queued["outputs"], queued["size"]) == ("", "0", [], "0")
    rig.now += 1e4
    done = await rig.detail(task)
    assert (done["status"], done["pexit"]) == ("task_postprocess_end", "0")
    assert (done["totalcost"], done["cps"]) == ("0.280000000000", "0.004666666667")
    assert json.loads(done["categories"]) == ["tool", "image-to-video", "partner", "MiniMax"]
    assert int(done["createtime"]) < int(done["starttime"]) < int(done["endtime"]) <= int(rig.now)
    assert float(done["elapsedseconds"]) > 0
    output = done["outputs"][0]
    assert (output["ispublic"], output["expiretime"], output["uuid"]) == (0, None, done["uuid"])
    loose = {"parameters", "outputs", "guestid", "marketplaceid"}
    assert all(isinstance(value, str) for name, value in done.items() if name not in loose)


async def test_detail_in_the_short_form(rig: Rig) -> None:
    """``[sandbox:short]`` gives the first documents' members and no others."""
    task = await rig.run("[sandbox:short]")
    rig.now += 1e4
    detail = await rig.detail(task)
    assert (detail["status"], detail["parameters"]) == ("task_postprocess_end", {})
    assert not {"pexit", "totalcost", "cps", "modelid"} & set(detail)
    assert "ispublic" not in detail["outputs"][0]


@pytest.mark.parametrize(
    ("operation", "body", "refused"),
    [
        ("Detail", {}, (0, "taskid or socketaccesstoken is required")),
        ("Cancel", {"tasktoken": "x"}, (0, "Request parameter [taskid] required")),
        ("Kill", {"tasktoken": "x"}, (0, "taskid or socketaccesstoken is required")),
        ("InputOutputDelete", {}, (0, "Request parameter [tasktoken] required")),
        ("Detail", {"tasktoken": "x"}, (1, "There is no task yet.")),
        ("Cancel", {"taskid": "1"}, (1, "task-not-exist")),
        ("Kill", {"socketaccesstoken": "x"}, (1, "task-not-exist")),
        ("InputOutputDelete", {"tasktoken": "x"}, (1, "task-not-exist")),
    ],
)
async def test_a_task_must_be_named_and_exist(rig: Rig, operation: str, body: Reply, refused: Any) -> None:
    """Each operation takes its own names: Cancel no token, Kill no ``tasktoken``."""
    assert await rig.post(f"/v1/Task/{operation}", body) == error(*refused)


async def test_tasks_are_found_by_number_and_by_token(rig: Rig) -> None:
    """An id may come as a number; another project sees nothing."""
    task = await rig.run()
    by_token = {"tasktoken": task["socketaccesstoken"]}
    assert (await rig.post("/v1/Task/Detail", {"taskid": 2221}))["tasklist"][0]["id"] == "2221"
    assert (await rig.post("/v1/Task/Detail", by_token))["tasklist"][0]["id"] == "2221"
    reply = await rig.post("/v1/Task/Detail", by_token, headers={"x-api-key": "other"})
    assert reply == error(1, "There is no task yet.")


async def test_cancel_and_kill(rig: Rig) -> None:
    """Queued tasks are cancelled, running ones killed; the reply is the task."""
    queued, running = await rig.run(), await rig.run("[sandbox:hang]")
    cancelled = await rig.post("/v1/Task/Cancel", {"taskid": queued["taskid"]})
    assert (cancelled["tasklist"][0]["status"], cancelled["result"]) == ("task_cancel", True)
    rig.now += 60
    assert (await rig.detail(queued))["elapsedseconds"] == "0.0000"
    rig.now += 1e4
    by_token = {"socketaccesstoken": running["socketaccesstoken"]}
    assert (await rig.post("/v1/Task/Cancel", {"taskid": running["taskid"]}))["errors"][0]["code"] == 1
    killed = await rig.post("/v1/Task/Kill", by_token)
    assert killed["tasklist"][0]["status"] == "task_cancel"
    assert "total" not in killed


async def test_list_shows_pages_newest_first(rig: Rig) -> None:
    """Filtered by model where that is asked for; a project without tasks is told so."""
    assert await rig.post("/v1/Task/List") == error(1, "There is no task yet.")
    for _ in range(3):
        await rig.run()
    await rig.run(path="/v1/Run/wiro/chat")

    async def ids(**body: str) -> tuple[str, list[str]]:
        reply = await rig.post("/v1/Task/List", {"type": "model", "sort": "id", **body})
        return reply["total"], [task["id"] for task in reply["tasklist"]]

    assert await ids() == ("4", ["2224", "2223", "2222", "2221"])
    assert await ids(start="1", limit="2") == ("4", ["2223", "2222"])
    assert await ids(order="ASC", limit="1") == ("4", ["2221"])
    assert await ids(modelName="minimax/IMAGE-to-video-01-director") == ("3", ["2223", "2222", "2221"])
    assert await ids(start="9") == ("4", [])
    for wrong in ({"start": "x"}, {"limit": "-1"}, {"start": -1}):
        assert await rig.post("/v1/Task/List", wrong) == error(0, "Request parameters are invalid.")


async def test_deleted_outputs_are_gone(rig: Rig) -> None:
    """From Detail and from the CDN; refused while the task lives; twice is once."""
    task = await rig.run()
    body = {"tasktoken": task["socketaccesstoken"]}
    living = "Task must be completed or cancelled before deleting files"
    assert await rig.post("/v1/Task/InputOutputDelete", body) == error(1, living)
    rig.now += 1e4
    url = (await rig.detail(task))["outputs"][0]["url"]
    for _ in range(2):
        assert await rig.post("/v1/Task/InputOutputDelete", body) == {"errors": [], "result": True}
    assert (await rig.detail(task))["outputs"] == []
    assert (await rig.http.get(url)).status_code == 404


# -- File ------------------------------------------------------------------------------------------


async def test_upload_gives_a_public_url(rig: Rig) -> None:
    """A name may be used once in a folder."""
    file = {"file": ("a b.jpg", b"JPEG", "image/jpeg")}
    reply = (await rig.http.post("/v1/File/Upload", files=file)).json()
    entry = reply["list"][0]
    assert (entry["name"], entry["contenttype"], entry["size"]) == ("a b.jpg", "image/jpeg", "4")
    assert (await rig.http.get(entry["url"])).content == b"JPEG"
    again = await rig.http.post("/v1/File/Upload", files=file)
    assert again.json() == error(1, "filesystem-already-exist")
    folder = (await rig.post("/v1/File/FolderCreate", {"name": "faces"}))["list"][0]
    reply = (await rig.http.post("/v1/File/Upload", files=file, data={"folderid": folder["id"]})).json()
    assert reply["list"][0]["parentid"] == folder["id"]


async def test_a_file_may_have_100_mb(rig: Rig) -> None:
    """And not a byte more."""
    large = await rig.http.post("/v1/File/Upload", files={"file": ("c.jpg", bytes(100 * 1024 * 1024 + 1))})
    assert large.json()["errors"][0]["code"] == 0


async def test_upload_and_folders_need_their_inputs(rig: Rig) -> None:
    """A text is no file, and a folder has a name."""
    assert await rig.post("/v1/File/Upload", {"file": "x"}) == error(0, "Request files [file] required")
    assert await rig.post("/v1/File/FolderCreate") == error(0, "Request parameter [name] required")
    for name in ("a b", "a/b", "ü", "a.b"):
        reply = await rig.post("/v1/File/FolderCreate", {"name": name})
        assert reply == error(0, "Request parameters are invalid.")


# -- Tool ------------------------------------------------------------------------------------------


async def test_tools_are_listed_and_described(rig: Rig) -> None:
    """By pages and by search; the parameters are those that Run validates."""
    reply = await rig.post("/v1/Tool/List", {"start": "0", "limit": "2", "search": "hailuo"})
    assert reply["total"] > len(reply["tool"]) == 2
    ids = [int(tool["id"]) for tool in reply["tool"]]
    newest = await rig.post("/v1/Tool/List", {"limit": "400", "sort": "id", "order": "DESC"})
    assert [tool["id"] for tool in newest["tool"]] == [str(number) for number in range(820, 499, -1)]
    assert ids == sorted(ids)
    some = await rig.post("/v1/Tool/List", {"categories": "image-to-video", "slugowner": "minimax"})
    same = await rig.post("/v1/Tool/List", {"categories": ["image-to-video"], "slugowner": "minimax"})
    assert some == same
    text = await rig.post("/v1/Tool/List", {"categories": '["image-to-video"]', "slugowner": " MiniMax"})
    assert text == some
    assert await rig.post("/v1/Tool/List", {"categories": "[image"}) == error(
        0, "Request parameters are invalid."
    )
    body = {"slugowner": "pruna", "slugproject": "p-video"}
    tool = (await rig.post("/v1/Tool/Detail", body))["tool"][0]
    items = {item["id"]: item for item in tool["parameters"][0]["items"]}
    assert items["prompt"]["required"] is True
    assert {"min", "max"} <= set(items["duration"])
    assert all(set(option) == {"label", "value"} for option in items["ratio"]["options"])
    assert json.loads(tool["dynamicprice"])[0]["priceMethod"] == "cpr"


async def test_the_documented_models_are_described_as_in_the_documents(rig: Rig) -> None:
    """With lists where the catalogue has them, a cover, and the help of each input."""
    body = {"slugowner": "minimax", "slugproject": "image-to-video-hailuo-01-subject"}
    reply = await rig.post("/v1/Tool/Detail", body)
    (tool,) = reply["tool"]
    assert reply["total"] == 1
    assert tool["title"] == "MiniMax/image-to-video-hailuo-01-subject"
    assert tool["categories"] == ["tool", "image-to-video", "partner", "MiniMax"]
    assert tool["tags"] == ["video generator"]
    assert tool["image"].endswith("/MiniMax-image-to-video-hailuo-01-subject-cover.mp4")
    assert "6-second video" in tool["description"]
    image, prompt = tool["parameters"][0]["items"]
    assert (image["label"], image["default"]) == ("Subject Reference Image URL", "")
    assert "human face" in image["note"]
    assert prompt["default"].startswith("A cinematic, sun-drenched photograph")
    director = await rig.post("/v1/Tool/Detail", {**body, "slugproject": "image-to-video-01-director"})
    assert "same aspect ratio" in director["tool"][0]["parameters"][0]["items"][0]["note"]


async def test_the_start_page_has_some_of_each_category(rig: Rig) -> None:
    """At most ten, and how many there are."""
    shelves = (await rig.post("/v1/Tool/Explore"))["explore"]
    assert sum(shelf["total"] for shelf in shelves) == 321
    assert {len(shelf["tools"]) for shelf in shelves if shelf["total"] >= 10} == {10}
    videos = next(shelf for shelf in shelves if shelf["title"] == "image-to-video")
    assert all("image-to-video" in tool["categories"] for tool in videos["tools"])


async def test_an_unknown_tool_is_not_accessible(rig: Rig) -> None:
    """In the service's words."""
    assert await rig.post("/v1/Tool/Detail", {}) == error(1, "tool-not-accessible")


# -- switches --------------------------------------------------------------------------------------


async def test_the_ledger_is_public(rig: Rig) -> None:
    """Without a key; it counts by operation, and credentials that went astray."""
    task = await rig.run("a marker")
    rig.now += 1e4
    url = (await rig.detail(task))["outputs"][0]["url"]
    await rig.http.get(url)
    ledger = (await rig.http.get("/sandbox/ledger", headers={"x-api-key": ""})).json()
    assert ledger["requests"] == {"Run": 1, "Task/Detail": 1, "cdn": 1}
    assert (ledger["paid"], ledger["credentials_leaked"]) == (1, 1)
    assert ledger["tasks"][0]["prompt"] == "a marker"
    assert ledger["tasks"][0]["details"] == 1
    assert task["socketaccesstoken"] not in json.dumps(ledger)
    assert (ledger["callbacks"]["expected"], ledger["sockets"]["open"]) == (0, 0)


async def test_tasks_are_steered(rig: Rig) -> None:
    """With a reason where there is one."""
    task = await rig.run()
    path = f"/sandbox/tasks/{task['taskid']}"
    assert (await rig.post(path, {"action": "hang"}))["status"] == "task_start"
    reply = await rig.post(path, {"action": "fail", "reason": "no face"})
    assert reply["status"] == "task_postprocess_end"
    assert (await rig.detail(task))["debugoutput"].endswith("no face")


@pytest.mark.parametrize(
    ("path", "body", "hint"),
    [
        ("/sandbox/tasks/1", {"action": "explode"}, "must be one of fail, error, release"),
        ("/sandbox/tasks/1", {"action": ["fail"]}, "must be one of"),
        ("/sandbox/tasks/1", {"action": "fail"}, "task-not-exist"),
        ("/sandbox/balance", {"balance": "much"}, "must be USD"),
        ("/sandbox/balance", {"balance": -1}, "must be USD"),
        ("/sandbox/balance", {}, "must be USD"),
        ("/sandbox/sockets", {"how": "softly"}, "'how' must be in"),
        ("/sandbox/sockets", {"share": None}, "not supported between"),
    ],
)
async def test_wrong_switches_say_what_is_right(rig: Rig, path: str, body: Reply, hint: str) -> None:
    """The value, and what it must be."""
    assert hint in (await rig.post(path, body))["errors"][0]["message"]


async def test_sockets_are_cut_by_a_switch(rig: Rig) -> None:
    """Those that there are."""
    assert (await rig.post("/sandbox/sockets"))["cut"] == 0


async def test_a_callback_url_is_kept_and_a_callback_expected(rig: Rig) -> None:
    """It is no input of the model; without one, none is expected. An API request looks what is due."""
    await rig.run()
    reply = await rig.post(DIRECTOR, {**IMAGE, "prompt": "x", "callbackUrl": "https://example.org/hook"})
    assert (await rig.detail(reply))["callbackurl"] == "https://example.org/hook"
    rig.now += 1000.0
    await rig.detail(reply)
    books = rig.service.ledger()["callbacks"]
    assert (books["expected"], books["not_sent"]) == (1, 1)


async def test_a_stalled_request_is_given_up() -> None:
    """``receive_timeout`` holds for every operation."""
    sent: list[Any] = []

    async def receive() -> Reply:
        await anyio.sleep_forever()
        raise AssertionError

    async def send(message: Any) -> None:
        sent.append(message)

    raw = b"/v1/Tool/List"
    scope = {"type": "http", "method": "POST", "path": raw.decode(), "raw_path": raw, "headers": []}
    app = build_app(Rig(receive_timeout=0.01).service)
    await app({**scope, "query_string": b""}, receive, send)
    assert sent[0]["status"] == 408
