"""The catalogue's price lists: which price applies, what it comes to, and that garbage is none."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.depth import examples
from tests.strategies import loose, some_of
from wiro_async._protocol.catalogue import listed_price

VIDEO = [
    {"inputs": {"resolution": "720p", "duration": "5"}, "price": 0.13, "priceMethod": "cpr"},
    {"inputs": {"resolution": "1080p", "duration": "5"}, "price": 0.29, "priceMethod": "cpr"},
    {"inputs": {"resolution": "720p", "duration": "10"}, "price": 0.26, "priceMethod": "cpr"},
]


def price_of(tariff: object, inputs: dict[str, object], seconds: float | None = None) -> Decimal | None:
    """Estimate a run of a model that has a price list and nothing else."""
    return listed_price({"dynamicprice": tariff}, inputs, seconds=seconds)


def listing(method: str, price: object = "0.5", **extra: object) -> list[dict[str, object]]:
    """Return a flat price list."""
    return [{"inputs": {}, "price": price, "priceMethod": method, **extra}]


@pytest.mark.parametrize(
    ("inputs", "price"),
    [
        ({"resolution": "720p", "duration": "5"}, "0.13"),
        ({"resolution": "1080P", "duration": 5}, "0.29"),
        ({"resolution": "720p", "duration": "5.0"}, "0.13"),
        ({"resolution": "720p"}, "0.26"),
        ({"duration": "5", "resolution": ""}, "0.29"),
        ({}, "0.29"),
        ({"resolution": "480p", "duration": "5"}, "0.29"),
    ],
)
@pytest.mark.parametrize("wire", [VIDEO, json.dumps(VIDEO)])
def test_the_price_of_these_inputs(inputs: dict[str, object], price: str, wire: object) -> None:
    """Spelling does not matter; what is not given may be any, and what is not listed the dearest."""
    assert price_of(wire, inputs) == Decimal(price)


@pytest.mark.parametrize(
    ("inputs", "price"),
    [
        ({"inputImage": ["a", "b", "c"]}, "3"),
        ({"inputImage": ["a", "", None]}, "1"),
        ({"inputImage": "", "inputImageUrl": "a"}, "1"),
        ({"inputImageUrl": ("a", b"b", "c")}, "3"),
        ({}, "3"),
    ],
)
def test_the_number_of_files_can_decide(inputs: dict[str, object], price: str) -> None:
    """Under either name of the input; with a number that is not listed, the dearest price counts."""
    tariff = [
        {"inputs": {"inputImage": f"QUANTITY:{number}"}, "price": number, "priceMethod": "cpr"}
        for number in (1, 3)
    ]
    assert price_of(tariff, inputs) == Decimal(price)


@pytest.mark.parametrize(
    ("method", "inputs", "price"),
    [
        ("cpr", {}, "0.5"),
        ("CPR ", {}, "0.5"),
        ("cpo", {}, "0.5"),
        ("cpo", {"samples": "4"}, "2"),
        ("cpo", {"samples": 0}, "0.5"),
        ("cp-outputPictureCount", {"numImages": 3}, "1.5"),
        ("cp-outputVideoLength", {"duration": "6"}, "3"),
        ("cp-outputVideoLength", {"videoSeconds": 0.5}, "0.25"),
        ("cp-outputVideoLength", {}, None),
        ("cp-outputVideoLength", {"duration": "1e9"}, None),
        ("cp-promptlength", {"prompt": "waves"}, "2.5"),
        ("cp-promptlength", {}, "0"),
        ("cps", {}, None),
        ("cpt", {}, None),
        ("cp-audiosecondslength", {"inputAudio": "a"}, None),
        ("cp-realtimeturn", {}, None),
        ("cp-readoutput", {}, None),
        ("", {}, None),
    ],
)
def test_the_methods_of_the_services_pricing_page(
    method: str, inputs: dict[str, object], price: str | None
) -> None:
    """What only the run itself shows has no estimate."""
    assert price_of(listing(method), inputs) == (None if price is None else Decimal(price))


@pytest.mark.parametrize(
    ("seconds", "price"),
    [(None, None), (60.0, "30"), (0.1, "0.05"), (float("inf"), None), (float("nan"), None), (-1.0, None)],
)
def test_the_second_of_processing(seconds: float | None, price: str | None) -> None:
    """Its price needs to know how long a run takes."""
    assert price_of(listing("cps"), {}, seconds=seconds) == (None if price is None else Decimal(price))


@pytest.mark.parametrize(
    ("inputs", "extra", "price"),
    [
        ({"width": 1024, "height": 1024}, {}, "0.5"),
        ({"width": 1025, "height": 1024}, {}, "1.0"),
        ({"width": 2048, "height": "2048"}, {"priceExtra": "0.1"}, "0.8"),
        ({"width": 1024, "height": 1024, "inputImage": ["a", "b"]}, {"priceInput": 0.2}, "0.9"),
        ({"width": 2048, "height": 1024, "inputImageUrl": "a"}, {"priceInput": 0.2, "priceExtra": 0}, "0.9"),
        ({"width": 1024}, {}, None),
        ({}, {}, None),
    ],
)
def test_the_pixel(inputs: dict[str, object], extra: dict[str, object], price: str | None) -> None:
    """By tiers of 1 048 576: the first at the price, others at the extra one; an input image once a tier."""
    expected = None if price is None else Decimal(price)
    assert price_of(listing("cp-pixel", **extra), inputs) == expected


def test_one_price_that_cannot_be_told_makes_all_unknown() -> None:
    """The highest of those that may apply is asked for."""
    assert price_of([*listing("cpr"), *listing("cpt")], {}) is None


@pytest.mark.parametrize("price", [None, "", "x", -1, "NaN", "1e9", True, [1], 0, "0", "0.000"])
def test_an_entry_without_a_price_is_none(price: object) -> None:
    """Nor is one beyond a million USD, and 0 says that there is no price; the others still count."""
    assert price_of(listing("cpr", price), {}) is None
    assert price_of([*listing("cpr", price), *listing("cpr")], {}) == Decimal("0.5")


def test_a_sum_beyond_a_million_is_no_price() -> None:
    """However it came about."""
    assert price_of(listing("cp-outputVideoLength", 900_000), {"duration": 6}) is None


def test_a_condition_that_cannot_be_read_is_met() -> None:
    """The dearest price that may apply counts."""
    tariff: list[dict[str, Any]] = [
        {"inputs": {"duration": ["5", "6"]}, "price": 1, "priceMethod": "cpr"},
        {"inputs": {"duration": "QUANTITY:x"}, "price": 9, "priceMethod": "cpr"},
    ]
    assert price_of(tariff, {"duration": "6"}) == 1


@given(tariff=loose | st.lists(some_of("inputs", "price", "priceMethod", "priceExtra")), seconds=st.floats())
@examples(150)
def test_no_garbage_breaks_it(tariff: object, seconds: float) -> None:
    """What comes out is nothing, or an amount that a run can cost."""
    price = price_of(tariff, {"duration": "6"}, seconds=seconds)
    assert price is None or 0 <= price <= 10**6


@given(
    st.dictionaries(
        st.sampled_from(["duration", "width", "height", "samples", "prompt", "inputImage"]), loose
    )
)
@examples(100)
def test_no_inputs_break_it(inputs: dict[str, object]) -> None:
    """Whatever the caller gives."""
    for method in ("cpr", "cpo", "cp-pixel", "cp-outputVideoLength", "cp-promptlength"):
        price = price_of([*VIDEO, *listing(method, priceExtra=1, priceInput=1)], inputs)
        assert price is None or price >= 0


# -- models without a list -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "seconds", "price"),
    [
        ({"dynamicprice": VIDEO, "cps": 1}, 60.0, "0.29"),
        ({"dynamicprice": "[]", "cps": "0.001"}, 60.0, "0.06"),
        ({"cps": "0.001", "approximatelycost": "0.05"}, None, "0.05"),
        ({"cps": "0", "approximatelycost": 0.05}, 60.0, "0.05"),
        ({"approximatelycost": "0"}, 60.0, None),
        ({"cps": "0.001"}, None, None),
        ({}, 60.0, None),
    ],
)
def test_without_a_list_the_second_is_paid(
    fields: dict[str, object], seconds: float | None, price: str | None
) -> None:
    """Or an average run, by the catalogue; a price of 0 says that there is none."""
    expected = None if price is None else Decimal(price)
    assert listed_price(fields, {}, seconds=seconds) == expected
