"""The source of typed inputs: readable names, honest types, and nothing of the catalogue becomes code."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.depth import examples
from tests.typed_inputs import STUB, VIDEO, all_models, stub, video_models
from wiro_async import Director, InvalidInput, Model, ModelInput
from wiro_async.inputs.source import class_names, source_of


def model(*inputs: ModelInput, slug: str = "owner/waves", **fields: Any) -> Model:
    """Return a model with these inputs."""
    return Model(slug, inputs=inputs, **{"categories": ("image-to-video",), **fields})


def lines(*inputs: ModelInput, **fields: Any) -> list[str]:
    """Return the lines of the source of one model, without what stands before the class."""
    source = source_of([model(*inputs, **fields)])
    return source[source.index("]\n") :].splitlines()[3:]


def field(item: ModelInput) -> str:
    """Return the line of one field, by name, without its indentation."""
    return lines(item)[-1].strip()


def names(*slugs: str) -> list[str]:
    """Return the names of the classes of some models."""
    return [name for name, _ in class_names([Model(slug) for slug in slugs])]


def loaded(source: str, name: str = "made") -> ModuleType:
    """Run a module's source."""
    module = ModuleType(name)
    sys.modules[name] = module
    exec(compile(source, name, "exec"), module.__dict__)
    return module


# -- what is shipped -------------------------------------------------------------------------------------


def test_what_is_shipped_is_what_the_generator_writes() -> None:
    """Nobody has changed a class by hand, and type checkers see all of them."""
    assert VIDEO.read_text("utf-8") == source_of(video_models()), "run python -m tests.typed_inputs"
    assert STUB.read_text("utf-8") == stub(), "run python -m tests.typed_inputs"


def test_every_model_of_the_catalogue_can_have_a_class(tmp_path: Path) -> None:
    """They are formatted as ruff would, import, and have as many fields as inputs, or fewer."""
    source = source_of(all_models())
    file = tmp_path / "all_models.py"
    file.write_text(source, "utf-8")
    ruff = [sys.executable, "-m", "ruff", "format", "--check", "--line-length", "110", str(file)]
    ran = subprocess.run(ruff, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    module = loaded(source, "all_models")
    assert len(module.__all__) == len(all_models())
    assert source_of(reversed(all_models())) == source


# -- names -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("slug", "name"),
    [
        ("klingai/kling-v2.6", "KlingV26"),
        ("klingai/image-to-video-klingai-v2.1-master", "KlingV21Master"),
        ("klingai/text-to-video-klingai-v2.1-master", "KlingV21MasterText"),
        ("MiniMax/hailuo-2.3", "HailuoV23"),
        ("MiniMax/hailuo-2.3-Fast", "HailuoV23Fast"),
        ("MiniMax/image-to-video-01-director", "Director"),
        ("minimax/image-to-video-hailuo-01-subject", "HailuoSubject"),
        ("google/veo3.1-fast", "Veo31Fast"),
        ("ByteDance/seedance-pro-v1.5", "SeedanceProV15"),
        ("bytedance/seedance-2-0", "SeedanceV20"),
        ("runway/gen-4-5", "GenV45"),
        ("PixVerse/image-to-video-v3.5", "PixVerseV35"),
        ("PixVerse/text-to-video-v3.5", "PixVerseV35Text"),
        ("lightricks/ ltx-2.3", "LtxV23"),
        ("wiro/Product Ads", "ProductAds"),
        ("wiro/3D Text Animations", "Wiro3DTextAnimations"),
        ("wiro/None", "WiroNone"),
        ("wiro/Literal", "WiroLiteral"),
        ("ai/ai", "Ai"),
        ("a/b v2-v3", "BV2V3"),
        ("3d/5", "Model3dV5"),
        ("Ü/ü", "Model"),
        ("o/image-to-video-", "O"),
    ],
)
def test_a_class_is_called_what_people_call_the_model(slug: str, name: str) -> None:
    """What begins with a digit, is a word of Python or only a version has its owner before it."""
    assert names(slug) == [name]


def test_names_that_clash_get_the_owner() -> None:
    """Both, in whatever order they come; where that does not help, a number."""
    assert names("a/veo3", "b/veo-3", "b/veo3") == ["AVeo3", "BVeo3", "VeoV3"]
    assert names("a/x.1", "a/x1", "a/x 1", "a/x-1") == ["AX1", "AX1N2", "AXV1", "AXV1N2"]
    assert names("a/x.1", "a/x1", "a/x1.") == ["AX1", "AX1N2", "AX1N3"]
    assert names("a/veo3", "a/veo3") == ["Veo3"]


@pytest.mark.parametrize(
    ("wire", "kind", "name"),
    [
        ("negativePrompt", "text", "negative_prompt"),
        ("inputImage", "fileinput", "image"),
        ("inputImageUrl", "fileinput", "image"),
        ("inputImageFirstUrl", "text", "image"),
        ("inputImageLastUrl", "fileinput", "image_last"),
        ("inputImage2Url", "fileinput", "image2"),
        ("talkingHeadImageUrl", "fileinput", "talking_head_image"),
        ("imageUrl", "text", "image_url"),
        ("inputText", "text", "input_text"),
        ("Watermark", "text", "watermark"),
        ("model", "text", "model_"),
        ("from", "text", "from_"),
        ("self", "text", "self_"),
        ("3d", "text", "input_3d"),
        ("Url", "fileinput", "url"),
        ("ü", "text", "input"),
        ("__init__", "text", "init"),
        ("toInputs", "text", "to_inputs_"),
    ],
)
def test_a_field_is_the_inputs_name_in_snake_case(wire: str, kind: str, name: str) -> None:
    """Files without what only says that they are inputs; nothing that Python or the class has."""
    assert field(ModelInput(wire, kind)).split(":")[0] == name


def test_fields_of_one_name_are_numbered() -> None:
    """An input that is listed twice is one."""
    source = "\n".join(lines(*(ModelInput(name) for name in ("aB", "a_b", "A-B", "aB", ""))))
    assert '    a_b: str | None = option("aB")\n    a_b_2: str | None = option("a_b")' in source
    assert source.count("option(") == 3


# -- types -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("item", "line"),
    [
        (ModelInput("x", "textarea"), 'x: str | None = option("x")'),
        (ModelInput("x", "textarea", required=True), 'x: str = sent_as("x")'),
        (ModelInput("x", "textarea", required=True, default="y"), 'x: str | None = option("x")'),
        (ModelInput("x", "unheard of"), 'x: str | None = option("x")'),
        (ModelInput("seed", "text"), 'seed: int | str | None = option("seed")'),
        (ModelInput("seed", "number"), 'seed: int | None = option("seed")'),
        (ModelInput("guidanceScale", "text"), 'guidance_scale: float | str | None = option("guidanceScale")'),
        (ModelInput("x", "number"), 'x: float | None = option("x")'),
        (ModelInput("x", "float", min=0.0), 'x: Annotated[float, Between(0, None)] | None = option("x")'),
        (ModelInput("x", "float", max=0.5), 'x: Annotated[float, Between(None, 0.5)] | None = option("x")'),
        (
            ModelInput("x", "range", min=1.0, max=9.0, step=1.0),
            'x: Annotated[int, Between(1, 9)] | None = option("x")',
        ),
        (
            ModelInput("x", "range", min=1.0, max=9.0, step=1.0, default="2.5"),
            'x: Annotated[float, Between(1, 9)] | None = option("x")',
        ),
        (
            ModelInput("x", "range", min=1.0, max=9.0, default="none"),
            'x: Annotated[float, Between(1, 9)] | None = option("x")',
        ),
        # The catalogue contradicts itself.
        (ModelInput("x", "range", min=9.0, max=1.0, step=1.0), 'x: int | None = option("x")'),
        (ModelInput("x", "range", min=1.0, max=9.0, default=10), 'x: float | None = option("x")'),
        (ModelInput("x", "checkbox"), 'x: bool | None = option("x")'),
        (ModelInput("x", "select", options=("true", "false")), 'x: bool | None = option("x")'),
        (ModelInput("x", "select", options=("on", "off")), 'x: Literal["on", "off"] | None = option("x")'),
        (ModelInput("x", "select", options=("10", "5", "")), 'x: Literal[5, 10] | None = option("x")'),
        (ModelInput("x", "select", options=("05", "10")), 'x: Literal["05", "10"] | None = option("x")'),
        (ModelInput("x", "select", options=("a", "a")), 'x: Literal["a"] | None = option("x")'),
        (ModelInput("x", "select", options=("",)), 'x: str | None = option("x")'),
        (ModelInput("x", "select"), 'x: str | None = option("x")'),
        (ModelInput("x", "multiselect"), 'x: Sequence[str] | None = option("x")'),
        (
            ModelInput("x", "multiselect", options=("a", "b")),
            'x: Sequence[Literal["a", "b"]] | None = option("x")',
        ),
        (ModelInput("x", "fileinput"), 'x: File | None = option("x")'),
        (ModelInput("x", "fileinput", required=True), 'x: File = sent_as("x")'),
        (ModelInput("x", "combinefileinput"), 'x: Files | None = option("x")'),
        (ModelInput("x", "multifileinput"), 'x: Files | None = option("x")'),
    ],
)
def test_a_field_takes_what_the_catalogue_says(item: ModelInput, line: str) -> None:
    """Choices as it spells them, whole numbers where all are, bounds where they make sense."""
    assert field(item) == line


@pytest.mark.parametrize(
    ("items", "line"),
    [
        ((("inputImage", "fileinput"), ("inputImageUrl", "text")), 'image: File = sent_as("inputImageUrl"'),
        ((("inputImageUrl", "text"), ("inputImage", "fileinput")), 'image: File = sent_as("inputImageUrl"'),
        (
            (("inputImage", "combinefileinput"), ("inputImageUrl", "text")),
            'image: Files = sent_as("inputImage"',
        ),
        (
            (("inputImageUrl", "text"), ("inputImage", "combinefileinput")),
            'image: Files = sent_as("inputImage"',
        ),
    ],
)
def test_a_file_and_its_url_are_one_field(items: tuple[tuple[str, str], ...], line: str) -> None:
    """A local file becomes a URL; where several go under one name, that takes both."""
    made = [ModelInput(name, kind, required=kind != "text") for name, kind in items]
    found = [text for text in lines(*made) if "sent_as" in text]
    assert [text.strip() for text in found] == [f"{line}, kw_only=False)"]


def test_image_and_prompt_come_first() -> None:
    """By their places; the prompt may be needed although it stands behind what is not."""
    items = (
        ModelInput("mode", "select", options=("a",), required=True),
        ModelInput("prompt", "textarea", required=True),
        ModelInput("inputVideoUrl", "fileinput"),
        ModelInput("inputImageUrl", "fileinput"),
    )
    image, prompt, mode, video = (line.strip() for line in lines(*items)[-4:])
    assert image == 'image: File | None = sent_as("inputImageUrl", default=None, kw_only=False)'
    assert prompt == 'prompt: str | None = sent_as("prompt", default=None, kw_only=False, required=True)'
    assert mode == 'mode: Literal["a"] = sent_as("mode")'
    assert video == 'video: File | None = option("inputVideoUrl")'
    source = "\n".join(lines(*items, categories=("tool", "video-to-video")))
    assert source.index("video: File") < source.index("prompt: str") < source.index("mode: Lit")
    assert 'image: File | None = option("inputImageUrl")' in source
    source = "\n".join(lines(*items, categories=("text-to-video",)))
    assert source.index("prompt: str = ") < source.index("mode: Lit") < source.index("image: File")
    assert 'image: File | None = sent_as("inputImageUrl", d' in "\n".join(lines(*items, categories=("tool",)))


def test_long_choices_have_a_name() -> None:
    """On one line where they fit, or else one a line."""
    some, many = (tuple(f"option-{n}" for n in range(count)) for count in (6, 30))
    items = (ModelInput("some", "select", options=some), ModelInput("many", "multiselect", options=many))
    source = "\n".join(lines(*items))
    assert 'WavesSome: TypeAlias = Literal["option-0", "option-1", ' in source
    assert '    some: WavesSome | None = option("some")' in source
    assert 'WavesMany: TypeAlias = Literal[\n    "option-0",\n' in source
    assert '    many: Sequence[WavesMany] | None = option("many")' in source


def test_the_names_of_choices_are_nobody_elses() -> None:
    """Neither a class's nor those of other choices."""
    short, long = (tuple(f"{letter * 40}-{n}" for n in range(3)) for letter in "ab")
    models = [
        model(ModelInput("b-c", "select", options=short), slug="o/a"),
        model(ModelInput("c", "select", options=long), slug="o/a-b"),
        model(slug="o/a-bC"),
    ]
    module = loaded(source_of(models))
    assert module.A(b_c=short[1]).to_inputs() == {"b-c": short[1]}
    assert module.AB(c=long[1]).to_inputs() == {"c": long[1]}
    assert module.ABC.model == "o/a-bC"
    for kind, name, wrong in ((module.A, "b_c", long[1]), (module.AB, "c", short[1])):
        with pytest.raises(InvalidInput, match="it must be one of"):
            kind(**{name: wrong})


def test_long_names_are_broken_as_ruff_would() -> None:
    """In the call, before it, or not at all."""
    word = "word" * 20
    assert lines(ModelInput(word))[-3:] == [f"    {word}: str | None = option(", f'        "{word}"', "    )"]
    items = ModelInput(word, "range", min=1.0, max=9.0, step=1.0)
    assert lines(items)[-3] == f"    {word}: Annotated[int, Between(1, 9)] | None = ("
    assert lines(items)[-2] == f'        option("{word}")'
    assert lines(slug=f"o/{word}{'x' * 12}")[-2] == f'        "o/{word}{"x" * 12}"'
    assert lines(slug=f"o/{word}{word}")[-1] == f'    model: ClassVar[str] = "o/{word}{word}"'


# -- documentation ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("item", "doc"),
    [
        (ModelInput("x"), "x: X."),
        (ModelInput("x", label="Prompt Text."), "x: Prompt Text."),
        (ModelInput("x", label="first_frame-image"), "x: First frame image."),
        (ModelInput("inputImageUrl", "fileinput", label="Image URL"), "image: Image."),
        (ModelInput("x", "multifileinput", label="Image URLs"), "x: Images: one file, or several."),
        (ModelInput("duration", label="Length"), "duration: Length, in seconds."),
        (ModelInput("videoSeconds", label="Video Seconds"), "video_seconds: Video Seconds."),
        (ModelInput("width", "number", default=512), "width: Width, in pixels (the service's default: 512)."),
        (ModelInput("x", label="X", note="Higher is\nslower."), "x: X: Higher is slower."),
        (ModelInput("x", default="a" * 99), f"x: X (the service's default: '{'a' * 39}…')."),
        (ModelInput("x", "select", options=("5",), default="5"), "x: X (the service's default: 5)."),
        (ModelInput("x", "select", options=("a",), default="a"), "x: X (the service's default: 'a')."),
        (
            ModelInput("x", "select", options=("true", "false"), default="true"),
            "x: X (the service's default: True).",
        ),
        (ModelInput("x", "checkbox", default=False), "x: X (the service's default: False)."),
        (ModelInput("x", "multiselect", default=[]), "x: X."),
    ],
)
def test_a_line_tells_what_a_field_is(item: ModelInput, doc: str) -> None:
    """Its title, unit, note and default."""
    assert doc in [line.strip() for line in lines(item)]


def test_a_class_without_inputs_is_one_all_the_same() -> None:
    """Of a model whose inputs are not listed."""
    assert lines() == [
        "@checked",
        "class Waves(CheckedInputs):",
        '    """Inputs of ``owner/waves``."""',
        "",
        '    model: ClassVar[str] = "owner/waves"',
    ]
    assert "Inputs of ``owner/waves``: Big Waves." in "\n".join(lines(ModelInput("x"), title="Big Waves."))


def test_the_documented_models_are_the_librarys_own() -> None:
    """They are imported, not written anew."""
    source = source_of([Model(Director.model)])
    assert "CheckedInputs" not in source
    assert loaded(source).Director is Director


# -- what others have written ----------------------------------------------------------------------------

HOSTILE = (
    '"""\nimport os\n"""', "'''", '"', "'", "\\", "\\\"", "\n", "\r", "\0", "\u202e", "\ud800", "`", "#",
    "{x}", "a" * 300, "] = 5\n", "(", ")" * 200, "é", "🚀", "class", "__import__('os')", "x\ty", "\u2028",
)  # fmt: skip

anything = st.one_of(st.sampled_from(HOSTILE), st.text(max_size=30))

kinds = st.sampled_from(
    ["text", "textarea", "select", "multiselect", "selectwithcover", "range", "number", "float", "checkbox",
     "fileinput", "multifileinput", "combinefileinput", "else"]
)  # fmt: skip

figures = st.one_of(
    st.none(), st.integers(-99, 99).map(float), st.floats(allow_nan=False, allow_infinity=False)
)

hostile_inputs = st.builds(
    ModelInput,
    name=anything,
    type=kinds,
    label=anything,
    required=st.booleans(),
    default=st.one_of(anything, st.none(), st.integers(), st.booleans(), st.lists(anything, max_size=2)),
    options=st.lists(anything, max_size=4).map(tuple),
    min=figures,
    max=figures,
    step=figures,
    note=anything,
)

hostile_models = st.builds(
    Model,
    slug=st.tuples(anything, anything).map("/".join),
    title=anything,
    categories=st.lists(st.one_of(anything, st.just("image-to-video")), max_size=2).map(tuple),
    inputs=st.lists(hostile_inputs, max_size=4).map(tuple),
)


@examples(200)
@given(st.lists(hostile_models, min_size=1, max_size=4))
def test_nothing_of_the_catalogue_becomes_code(models: list[Model]) -> None:
    """Whatever stands in it, the module imports, and consists of imports, names and classes of fields."""
    source = source_of(models)
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Call(func=ast.Name(id=called)):
                assert called in {"Between", "option", "sent_as"}
            case ast.Call() | ast.Attribute() | ast.FunctionDef() | ast.Import():
                raise AssertionError(ast.unparse(node))
    assert all(character.isprintable() or character == "\n" for character in source)
    module = loaded(source)
    assert {getattr(module, name).model for name in module.__all__} == {each.slug for each in models}
    for name, each in class_names(models):
        assert getattr(module, name).model == each.slug
