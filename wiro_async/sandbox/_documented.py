"""The three tasks that the documents print, with the values that they print. Pure.

Task 2221 has ended; 534574 runs, and 634574 waits in the queue. The documents print one token for the last
two: looked up, it is the running one's, for the line that uses it is about killing. Their samples fit no life
of a task (a run longer than from its start to its end, an exit code of a stopped task), so once a task has
ended, its record is the sample.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from wiro_async._types import Status
from wiro_async.sandbox._catalogue import Catalogue
from wiro_async.sandbox._directives import Directives
from wiro_async.sandbox._engine import Engine, Order, Output, Product, Stage, Task
from wiro_async.sandbox._media import padded_png

__all__ = ["FIRST_FREE_ID", "PICTURE", "plant"]

FIRST_FREE_ID = 634575
"""The id of the first task after the printed ones."""

PICTURE = (
    "6a6af820-c5050aee-40bd7b83-a2e186c6-7f61f7da-3894e49c-fc0eeb66-9b500fe2/0.png",
    "image/png",
    202472,
)
"""Path, type and size in bytes of the output that all three samples name."""

_UUID = "15bce51f-442f-4f44-a71d-13c6374a62bd"
_ENDED_TOKEN = "eDcCm5yyUfIvMFspTwww49OUfgXkQt"  # noqa: S105 - printed in public documents
_LIVING_TOKEN = "ZpYote30on42O4jjHXNiKmrWAZqbRE"  # noqa: S105 - likewise
_PARAMETERS = {
    "inputImage": "https://api.wiro.ai/v1/File/mCmUXgZLG1FNjjjwmbtPFr2LVJA112/inputImage-6060136.png"
}

_TIMES: Mapping[str, str] = {
    "starttime": "1734513809",
    "endtime": "1734513813",
    "createtime": "1734513807",
    "canceltime": "0",
    "assigntime": "1734513807",
    "accepttime": "1734513807",
    "preprocessstarttime": "1734513807",
    "preprocessendtime": "1734513807",
    "postprocessstarttime": "1734513813",
    "postprocessendtime": "1734513814",
    "elapsedseconds": "6.0000",
}

_LONG_FORM: Mapping[str, Any] = {
    "name": "",
    "cps": "0.000585000000",
    "totalcost": "0.003510000000",
    "guestid": None,
    "projectid": "699",
    "modelid": "598",
    "description": "",
    "basemodelid": "0",
    "runtype": "model",
    "modelfolderid": "",
    "modelfileid": "",
    "callbackurl": "",
    "marketplaceid": None,
    "pexit": "0",
    "categories": '["tool","image-to-image","quick-showcase","compare-landscape"]',
}


def picture() -> bytes:
    """The output of all three: of the printed size."""
    return padded_png(PICTURE[2])


def plant(engine: Engine, catalogue: Catalogue, project_id: str, now: float) -> None:
    """Put the tasks into a fresh engine.

    Args:
        engine: Has no tasks yet.
        catalogue: Has the models that they are of.
        project_id: Whose they are.
        now: The time. The ended one has ended, and the running one has begun, just before.
    """
    director = catalogue.find("MiniMax", "image-to-video-01-director")
    painter = next(model for model in catalogue.models if model.category == "image-to-image")
    path, contenttype, size = PICTURE
    product = Product("0.png", contenttype, size, path)
    output = Output(
        id="6bc392c93856dfce3a7d1b4261e15af3",
        name=product.name,
        contenttype=contenttype,
        parentid="6c1833f39da71e6175bf292b18779baf",
        size=size,
        addedtime=1734513812.0,
        accesskey="dFKlMApaSgMeHKsJyaDeKrefcHahUK",
        path=path,
    )

    def task(number: str, token: str, directives: Directives, stages: list[Stage], **more: Any) -> Task:
        order = Order(
            project_id=project_id,
            model=director if directives.short else painter,
            parameters={} if directives.short else _PARAMETERS,
            price=Decimal("0.00351"),
            directives=directives,
            products=[product],
        )
        printed = _TIMES if directives.short else {**_TIMES, **_LONG_FORM}
        return Task(
            id=number,
            token=token,
            uuid=_UUID,
            order=order,
            created=stages[0].at,
            stages=stages,
            printed={**printed, "size": str(size)},
            printed_outputs=(output,),
            **more,
        )

    preparing = (Status.ASSIGN, Status.ACCEPT, Status.PREPROCESS_START, Status.PREPROCESS_END)
    begun = [Stage(now - 7, status) for status in (Status.QUEUE, *preparing, Status.START)]
    tail = (Status.OUTPUT, Status.END, Status.POSTPROCESS_START, Status.POSTPROCESS_END)
    done = [*begun, *(Stage(now - 1, status) for status in tail)]
    ended = {"pexit": "0", "outputs": (output,), "open": False}
    engine.plant(task("2221", _ENDED_TOKEN, Directives(short=True), done, **ended))
    engine.plant(task("534574", _LIVING_TOKEN, Directives(hang=True), begun, held=True))
    engine.plant(task("634574", _LIVING_TOKEN, Directives(queue=True), [Stage(now - 1, Status.QUEUE)]))
