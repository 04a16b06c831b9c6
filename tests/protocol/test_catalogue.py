"""The catalogue: what is asked for, and what becomes of the answer."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest

from tests.fakes import FakeService, client, ok
from wiro_async import InvalidInput, Model, ModelInput, ModelNotFound

PARAMETERS: list[dict[str, Any]] = [
    {
        "title": "Inputs",
        "items": [
            {
                "id": "inputImage",
                "type": "combinefileinput",
                "label": "Image",
                "required": True,
                "note": "A URL or a file.",
                "maxfilelimit": 2,
            },
            {
                "id": "prompt",
                "type": "textarea",
                "label": "Prompt",
                "required": "false",
                "default": "waves roll in",
            },
        ],
    },
    {
        "title": "Settings",
        "items": [
            {
                "id": "duration",
                "type": "select",
                "label": "Duration",
                "default": "6",
                "options": [{"label": "6 s", "value": "6"}, {"label": "10 s", "value": 10}],
            },
            {"id": "guidance", "type": "range", "min": "0", "max": 10, "step": "0.5", "default": 3.5},
            {"id": "seed", "type": "number", "value": "0"},
            {"id": "loop", "type": "checkbox", "default": "true"},
        ],
    },
]

TOOL: dict[str, Any] = {
    "id": "598",
    "title": "Hailuo 2.3",
    "slugowner": "MiniMax",
    "slugproject": "hailuo-2.3",
    "cleanslugowner": "minimax",
    "cleanslugproject": "hailuo-2-3",
    "description": "Makes clips.",
    "categories": '["tool","image-to-video"]',
    "parameters": PARAMETERS,
    "dynamicprice": '[{"inputs": {"duration": "6"}, "price": 0.28, "priceMethod": "cpr"}]',
}

INPUTS = (
    ModelInput(
        "inputImage",
        "combinefileinput",
        "Image",
        required=True,
        note="A URL or a file.",
        raw={"maxfilelimit": 2},
    ),
    ModelInput("prompt", "textarea", "Prompt", default="waves roll in"),
    ModelInput("duration", "select", "Duration", default="6", options=("6", "10"), labels=("6 s", "10 s")),
    ModelInput("guidance", "range", default=3.5, min=0.0, max=10.0, step=0.5),
    ModelInput("seed", "number", default="0"),
    ModelInput("loop", "checkbox", default="true"),
)


async def listed(*models: object) -> list[Model]:
    """Return what a listing of these models is read as."""
    async with client(FakeService(Tool_List=[ok(tool=list(models)), ok(tool=[])])) as caller:
        return [model async for model in caller.list_models()]


async def detailed(tool: object, slug: str) -> Model:
    """Return what a model's detail is read as."""
    async with client(FakeService(Tool_Detail=ok(tool=tool))) as caller:
        return await caller.get_model(slug)


@pytest.mark.parametrize("parameters", [PARAMETERS, json.dumps(PARAMETERS)])
async def test_the_detail_form_is_read(parameters: object) -> None:
    """Titles group the inputs on the service's page; here they are one list, in its order."""
    model = await detailed([{**TOOL, "parameters": parameters}], "MiniMax/hailuo-2.3")
    assert model == Model(
        "MiniMax/hailuo-2.3",
        "Hailuo 2.3",
        "Makes clips.",
        ("tool", "image-to-video"),
        INPUTS,
        Decimal("0.280"),
        raw={"id": "598", "dynamicprice": TOOL["dynamicprice"]},
    )


@pytest.mark.parametrize(
    "parameters", [None, [], "", "[]", {}, [None], [{}], [{"items": None}], [{"items": ["x"]}]]
)
async def test_a_model_without_inputs_is_one(parameters: object) -> None:
    """As in a listing."""
    assert (await listed({**TOOL, "parameters": parameters}))[0].inputs == ()


async def test_an_input_of_nothing_is_a_text() -> None:
    """A kind that is missing is the service's plainest one."""
    (model,) = await listed({"parameters": [{"items": [{}]}]})
    assert model.inputs == (ModelInput("", "text"),)


@pytest.mark.parametrize("tool", [None, [], "", "[]", {}, [None, "x"]])
async def test_no_model_is_none(tool: object) -> None:
    """A listing may be empty; a model that was asked for must be there."""
    async with client(FakeService(Tool_List=[ok(tool=tool), ok()])) as caller:
        for _ in range(2):
            assert [model async for model in caller.list_models()] == []
    with pytest.raises(ModelNotFound, match="there is no model 'a/b'") as caught:
        await detailed(tool, "a/b")
    assert (caught.value.operation, caught.value.http_status) == ("Tool/Detail", 200)


async def test_every_model_of_a_listing_is_read() -> None:
    """In the order of the reply."""
    assert [
        model.slug for model in await listed(TOOL, {"slugowner": "wiro", "slugproject": "Product Photoshoot"})
    ] == [
        "MiniMax/hailuo-2.3",
        "wiro/Product Photoshoot",
    ]


async def test_a_listing_is_asked_for_in_strings() -> None:
    """A category only when one is named."""
    asked = {"start": "0", "limit": "20", "search": "hailuo", "sort": "id", "order": "DESC"}
    service = FakeService(Tool_List=[ok(tool=[]), ok(tool=[TOOL]), ok(tool=[])])
    async with client(service) as caller:
        assert [model async for model in caller.list_models("hailuo", limit=20)] == []
        assert len([model async for model in caller.list_models(category="image-to-video", limit=5)]) == 1
    in_category = {**asked, "search": "", "limit": "5", "categories": ["image-to-video"]}
    assert [payload for _, payload in service.calls] == [
        asked, in_category, {**in_category, "start": "1", "limit": "4"},
    ]  # fmt: skip


async def test_a_model_is_asked_for_by_both_parts_of_its_slug() -> None:
    """As they are; in JSON nothing needs encoding."""
    service = FakeService(Tool_Detail=ok(tool=[TOOL]))
    async with client(service) as caller:
        await caller.get_model("wiro/Product Photoshoot")
        with pytest.raises(InvalidInput, match="not owner/model"):
            await caller.get_model("hailuo")
    asked = {"slugowner": "wiro", "slugproject": "Product Photoshoot"}
    assert service.calls == [("Tool/Detail", asked)]
