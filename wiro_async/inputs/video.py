"""Typed inputs, a class for each model, as ``wiro types`` writes them from the catalogue."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, TypeAlias

from wiro_async import Director, HailuoSubject
from wiro_async.inputs import Between, CheckedInputs, File, Files, checked, option, sent_as

__all__ = [
    "AniPortraitAudio2video",
    "AniPortraitPose2video",
    "AnimateDiff",
    "AnimatedLogo",
    "AvatarMotion",
    "AvatarMotionMulti",
    "AvatarMotionWithCaption",
    "BabyDanceFlow",
    "DanceFlow",
    "Director",
    "DreamActor",
    "Effects",
    "FacelessVideoGenerator",
    "Gen4Turbo",
    "GenV45",
    "GrokImagineVideo",
    "HailuoSubject",
    "HailuoV01",
    "HailuoV01Director",
    "HailuoV01DirectorText",
    "HailuoV01Live",
    "HailuoV01Text",
    "HailuoV02",
    "HailuoV02Text",
    "HailuoV23",
    "HailuoV23Fast",
    "HunyuanVideo",
    "KlingV3",
    "KlingV3MotionControl",
    "KlingV3Omni",
    "KlingV16",
    "KlingV16Text",
    "KlingV20",
    "KlingV20Text",
    "KlingV21",
    "KlingV21Master",
    "KlingV21MasterText",
    "KlingV25Turbo",
    "KlingV26",
    "KlingV26MotionControl",
    "LTXVideoImage2Video",
    "LTXVideoText2Video",
    "LiveAvatar",
    "LivePortrait",
    "LtxV2Distilled",
    "LtxV23",
    "LucyEditDev",
    "Memo",
    "MotionFlow",
    "Ovi",
    "PVideo",
    "PixVerseV4",
    "PixVerseV4Text",
    "PixVerseV5",
    "PixVerseV5Text",
    "PixVerseV35",
    "PixVerseV35Text",
    "PixVerseV45",
    "PixVerseV45Text",
    "ProductAds",
    "ProductAdsWithCaption",
    "ProductAdsWithLogo",
    "ProductStudio",
    "ProductWithModel",
    "SeedanceLiteV1",
    "SeedanceLiteV1Text",
    "SeedanceProV1",
    "SeedanceProV15",
    "SeedanceProV15Uncensored",
    "SeedanceV1ProFast",
    "SeedanceV20",
    "SkyReelsV1",
    "SoraV2",
    "SoraV2Pro",
    "T2vTurbo",
    "Transition",
    "UgcCreator",
    "Vace",
    "Veo3",
    "Veo3Fast",
    "Veo31",
    "Veo31Fast",
    "Vgen",
    "VideoBackgroundMusicGen",
    "VideoBackgroundMusicV2",
    "VideoMerge",
    "Wan22AnimateAnimation",
    "Wan22AnimateReplace",
    "Wan22EffectsExtra",
    "WanV26",
    "Wiro3DTextAnimations",
]


@checked
class AniPortraitAudio2video(CheckedInputs):
    """Inputs of ``wiro/ani-portrait-audio2video``: Ani Portrait Audio2Video.

    Args:
        image: Input Image.
        video: Input Video.
        audio: Input Audio.
        steps: Inferencesteps.
        scale: Guidancescale.
        width: Width, in pixels.
        height: Height, in pixels.
        fps: Fps, in frames per second.
        step: Fi Step.
        seed: Seed.
    """

    model: ClassVar[str] = "wiro/ani-portrait-audio2video"

    image: File | None = sent_as("inputImageUrl", default=None, kw_only=False)
    video: File | None = option("inputVideoUrl")
    audio: File | None = option("inputAudioUrl")
    steps: float | None = option("steps")
    scale: float | None = option("scale")
    width: float | None = option("width")
    height: float | None = option("height")
    fps: float | None = option("fps")
    step: float | None = option("step")
    seed: int | str | None = option("seed")


@checked
class AniPortraitPose2video(CheckedInputs):
    """Inputs of ``wiro/ani-portrait-pose2video``: Pose 2 Video.

    Args:
        image: Input Image.
        video: Input Video.
        steps: Inferencesteps.
        width: Width, in pixels.
        height: Height, in pixels.
        fps: Fps, in frames per second.
        step: Fi Step.
        cfg: Cfg.
        seed: Seed.
    """

    model: ClassVar[str] = "wiro/ani-portrait-pose2video"

    image: File = sent_as("inputImageUrl", kw_only=False)
    video: File = sent_as("inputVideoUrl")
    steps: float | None = option("steps")
    width: float | None = option("width")
    height: float | None = option("height")
    fps: float | None = option("fps")
    step: float | None = option("step")
    cfg: float | None = option("cfg")
    seed: int | str | None = option("seed")


AnimateDiffLoraType: TypeAlias = Literal[
    "FILE:169578",
    "FILE:169579",
    "FILE:169580",
    "FILE:169581",
    "FILE:169582",
    "FILE:169583",
    "FILE:169584",
    "FILE:169585",
]


@checked
class AnimateDiff(CheckedInputs):
    """Inputs of ``wiro/animate-diff``: AnimateDiff Text To Video.

    Args:
        prompt: Prompt.
        selected_model: Dreambooth Model.
        selected_model_private: Dreambooth Model Private.
        negative_prompt: Negativeprompt.
        lora_type: Lora Type.
        frame_number: Framenumber.
        steps: Inferencesteps.
        seed: Seed.
        width: Width, in pixels.
        height: Height, in pixels.
    """

    model: ClassVar[str] = "wiro/animate-diff"

    prompt: str = sent_as("prompt", kw_only=False)
    selected_model: str | None = option("selectedModel")
    selected_model_private: str | None = option("selectedModelPrivate")
    negative_prompt: str | None = option("negativePrompt")
    lora_type: AnimateDiffLoraType | None = option("loraType")
    frame_number: float | None = option("frameNumber")
    steps: float | None = option("steps")
    seed: int | str | None = option("seed")
    width: float | None = option("width")
    height: float | None = option("height")


@checked
class AnimatedLogo(CheckedInputs):
    """Inputs of ``wiro/Animated Logo``: Animated Logo.

    Args:
        image: Input Image.
        video_mode: Video Mode.
        ratio: Ratio.
        effect_type: Effect Type.
    """

    model: ClassVar[str] = "wiro/Animated Logo"

    image: File | None = sent_as("inputImageUrl", default=None, kw_only=False)
    video_mode: Literal["pro", "std"] | None = option("videoMode")
    ratio: Literal["1:1", "16:9", "9:16"] | None = option("ratio")
    effect_type: str = sent_as("effectType")


@checked
class AvatarMotion(CheckedInputs):
    """Inputs of ``wiro/AvatarMotion``: Avatar Motion.

    Args:
        image: Input Image.
        effect_type: Effect Type.
        output_type: Output Type.
        seed: Seed.
    """

    model: ClassVar[str] = "wiro/AvatarMotion"

    image: File | None = sent_as("inputImageUrl", default=None, kw_only=False)
    effect_type: str | None = option("effectType")
    output_type: str | None = option("outputType")
    seed: int | str | None = option("seed")


@checked
class AvatarMotionMulti(CheckedInputs):
    """Inputs of ``wiro/AvatarMotion-Multi``: AI AvatarMotion API.

    Args:
        image: Input Image.
        effect_type: Effect Type.
        seed: Seed.
    """

    model: ClassVar[str] = "wiro/AvatarMotion-Multi"

    image: File | None = sent_as("inputImageUrl", default=None, kw_only=False)
    effect_type: str | None = option("effectType")
    seed: int | str | None = option("seed")


@checked
class AvatarMotionWithCaption(CheckedInputs):
    """Inputs of ``wiro/AvatarMotion with Caption``: Avatar Motion.

    Args:
        image: Input Image.
        caption: Caption.
        video_mode: Video Mode.
        effect_type: Effect Type.
        output_type: Output Type.
        seed: Seed.
    """

    model: ClassVar[str] = "wiro/AvatarMotion with Caption"

    image: File | None = sent_as("inputImageUrl", default=None, kw_only=False)
    caption: str | None = option("caption")
    video_mode: Literal["pro", "standard"] | None = option("videoMode")
    effect_type: str | None = option("effectType")
    output_type: str | None = option("outputType")
    seed: int | str | None = option("seed")


@checked
class BabyDanceFlow(CheckedInputs):
    """Inputs of ``wiro/BabyDanceFlow``: Motion Flow.

    Args:
        image: Input Image.
        effect_type: Effect Type.
    """

    model: ClassVar[str] = "wiro/BabyDanceFlow"

    image: File = sent_as("inputImageUrl", kw_only=False)
    effect_type: str | None = option("effectType")


@checked
class DanceFlow(CheckedInputs):
    """Inputs of ``wiro/Dance Flow``: Dance Flow.

    Args:
        image: Input Image.
        effect_type: Effect Type.
        output_type: Output Type.
        seed: Seed.
    """

    model: ClassVar[str] = "wiro/Dance Flow"

    image: File | None = sent_as("inputImageUrl", default=None, kw_only=False)
    effect_type: str | None = option("effectType")
    output_type: Literal["image", "video", "both"] | None = option("outputType")
    seed: int | str | None = option("seed")


@checked
class DreamActor(CheckedInputs):
    """Inputs of ``ByteDance/DreamActor``: DreamActor - Image-to-Video Generation.

    Args:
        image: Input Image.
        video: Video.
    """

    model: ClassVar[str] = "ByteDance/DreamActor"

    image: File = sent_as("inputImageUrl", kw_only=False)
    video: File = sent_as("inputVideoUrl")


@checked
class Effects(CheckedInputs):
    """Inputs of ``PixVerse/Effects``: Effects.

    Args:
        image: Image.
        template_id: Template ID.
        duration: Duration, in seconds.
        quality: Quality.
        motion_mode: Motion Mode.
        style: Style.
        seed: Seed.
        watermark: Watermark.
    """

    model: ClassVar[str] = "PixVerse/Effects"

    image: File | None = sent_as("inputImageUrl", default=None, kw_only=False)
    template_id: Literal[302325299651648, 313649491716544] | None = option("templateId")
    duration: Literal[5, 8] | None = option("duration")
    quality: Literal["1080p", "360p", "540p", "720p"] | None = option("quality")
    motion_mode: Literal["fast", "normal"] | None = option("motionMode")
    style: Literal["3d_animation", "anime", "clay", "comic", "cyberpunk"] | None = option("style")
    seed: int | None = option("seed")
    watermark: bool | None = option("Watermark")


FacelessVideoGeneratorVideoModel: TypeAlias = Literal[
    "seedance-lite-v1",
    "seedance-pro-v1",
    "veo-3.1",
    "veo-3.1-fast",
    "klingai-v2.1",
    "hailuo-2.3",
    "hailuo-2.3-fast",
    "sora-2",
    "sora-2-pro",
    "Wan2.2",
]


FacelessVideoGeneratorTtsVoice: TypeAlias = Literal[
    "am_adam",
    "em_alex",
    "bf_alice",
    "af_alloy",
    "hf_alpha",
    "af_aoede",
    "af_bella",
    "hf_beta",
    "bm_daniel",
    "ef_dora",
    "am_echo",
    "bf_emma",
    "am_eric",
    "bm_fable",
    "am_fenrir",
    "bm_george",
    "jf_gongitsune",
    "af_heart",
    "bf_isabella",
    "af_jessica",
    "af_kore",
    "jm_kumo",
    "bm_lewis",
    "am_liam",
    "bf_lily",
    "am_michael",
    "jf_nezumi",
    "im_nicola",
    "af_nicole",
    "af_nova",
    "hm_omega",
    "am_onyx",
    "hm_psi",
    "am_puck",
    "af_river",
    "am_santa",
    "if_sara",
    "af_sarah",
    "ff_siwis",
    "af_sky",
    "jf_tebukuro",
    "zf_xiaobei",
    "zf_xiaoni",
    "zf_xiaoxiao",
    "zf_xiaoyi",
    "zm_yunjian",
    "zm_yunxi",
    "zm_yunxia",
    "zm_yunyang",
]


FacelessVideoGeneratorCaptionFontFamily: TypeAlias = Literal[
    "Poppins-Black",
    "Poppins-BlackItalic",
    "Poppins-Bold",
    "Poppins-BoldItalic",
    "Poppins-ExtraBold",
    "Poppins-ExtraBoldItalic",
    "Poppins-ExtraLight",
    "Poppins-ExtraLightItalic",
    "Poppins-Italic",
    "Poppins-Light",
    "Poppins-LightItalic",
    "Poppins-Medium",
    "Poppins-MediumItalic",
    "Poppins-Regular",
    "Poppins-SemiBold",
    "Poppins-SemiBoldItalic",
    "Poppins-Thin",
    "Poppins-ThinItalic",
]


FacelessVideoGeneratorCoverEffect: TypeAlias = Literal[
    "pan-left",
    "pan-right",
    "static",
    "zoom-in",
    "zoom-in-pan-right",
    "zoom-out",
]


FacelessVideoGeneratorCoverAnimationSpeed: TypeAlias = Literal["0.5", "0.75", "1.0", "1.25", "1.5", "2.0"]


FacelessVideoGeneratorCoverFontFamily: TypeAlias = Literal[
    "Poppins-Black",
    "Poppins-BlackItalic",
    "Poppins-Bold",
    "Poppins-BoldItalic",
    "Poppins-ExtraBold",
    "Poppins-ExtraBoldItalic",
    "Poppins-ExtraLight",
    "Poppins-ExtraLightItalic",
    "Poppins-Italic",
    "Poppins-Light",
    "Poppins-LightItalic",
    "Poppins-Medium",
    "Poppins-MediumItalic",
    "Poppins-Regular",
    "Poppins-SemiBold",
    "Poppins-SemiBoldItalic",
    "Poppins-Thin",
    "Poppins-ThinItalic",
]


@checked
class FacelessVideoGenerator(CheckedInputs):
    """Inputs of ``wiro/Faceless-Video-Generator``: Faceless Video Generator.

    Args:
        prompt: Prompt.
        video_model: Video Model.
        total_video_seconds: Total Video Seconds.
        video_quality: Video Quality.
        caption_effect: Caption Effect.
        tts_voice: TTS Voice.
        reveal_full_sentence: Reveal Full Sentence.
        speech_speed: Speech Speed.
        talking_head_display: Talking Head Display.
        talking_head_image: Talking Head Image.
        caption_position: Caption Position.
        caption_font_family: Caption Font Family.
        caption_font_color: Caption Font Color.
        caption_box_color: Caption Box Color.
        caption_box_opacity: Caption Box Opacity.
        cover_effect: Cover Effect.
        cover_animation_speed: Cover Animation Speed.
        cover_font_family: Cover Font Family.
        cover_font_color: Cover Font Color.
        cover_box_color: Cover Box Color.
        cover_box_opacity: Cover Box Opacity.
        seed: Seed.
    """

    model: ClassVar[str] = "wiro/Faceless-Video-Generator"

    prompt: str | None = sent_as("prompt", default=None, kw_only=False)
    video_model: FacelessVideoGeneratorVideoModel | None = option("videoModel")
    total_video_seconds: Literal[10, 15, 20, 25, 30] | None = option("totalVideoSeconds")
    video_quality: Literal["1080p", "480p", "720p"] | None = option("videoQuality")
    caption_effect: Literal["wordbyword", "sentence", "word"] | None = option("captionEffect")
    tts_voice: FacelessVideoGeneratorTtsVoice | None = option("ttsVoice")
    reveal_full_sentence: bool | None = option("revealFullSentence")
    speech_speed: float | None = option("speechSpeed")
    talking_head_display: bool | None = option("talkingHeadDisplay")
    talking_head_image: File | None = option("talkingHeadImageUrl")
    caption_position: Literal["bottom", "center", "top"] | None = option("captionPosition")
    caption_font_family: FacelessVideoGeneratorCaptionFontFamily | None = option("captionFontFamily")
    caption_font_color: str | None = option("captionFontColor")
    caption_box_color: str | None = option("captionBoxColor")
    caption_box_opacity: float | str | None = option("captionBoxOpacity")
    cover_effect: FacelessVideoGeneratorCoverEffect | None = option("coverEffect")
    cover_animation_speed: FacelessVideoGeneratorCoverAnimationSpeed | None = option("coverAnimationSpeed")
    cover_font_family: FacelessVideoGeneratorCoverFontFamily | None = option("coverFontFamily")
    cover_font_color: str | None = option("coverFontColor")
    cover_box_color: str | None = option("coverBoxColor")
    cover_box_opacity: float | str | None = option("coverBoxOpacity")
    seed: int | str | None = option("seed")


Gen4TurboRatio: TypeAlias = Literal["1104:832", "1280:720", "1584:672", "720:1280", "832:1104", "960:960"]


@checked
class Gen4Turbo(CheckedInputs):
    """Inputs of ``Runway/image-to-video-gen4-turbo``: Image To Video Gen4 Turbo.

    Args:
        image: First Image.
        prompt: Prompt.
        image_last: Last Image.
        ratio: Ratio.
        duration: Duration, in seconds.
        content_moderation: Public Figure Threshold.
        seed: Seed.
    """

    model: ClassVar[str] = "Runway/image-to-video-gen4-turbo"

    image: File = sent_as("inputImageUrl", kw_only=False)
    prompt: str = sent_as("prompt", kw_only=False)
    image_last: File | None = option("inputImageLastUrl")
    ratio: Gen4TurboRatio | None = option("ratio")
    duration: Literal[5, 10] | None = option("duration")
    content_moderation: Literal["auto", "low"] | None = option("contentModeration")
    seed: int | None = option("seed")


@checked
class GenV45(CheckedInputs):
    """Inputs of ``runway/gen-4-5``: Runway Gen-4.5.

    Args:
        image: First frame: one file, or several.
        prompt: Prompt.
        ratio: Ratio.
        duration: Duration, in seconds.
        content_moderation: Content moderation.
        seed: Seed.
    """

    model: ClassVar[str] = "runway/gen-4-5"

    image: Files | None = sent_as("inputImage", default=None, kw_only=False)
    prompt: str | None = sent_as("prompt", default=None, kw_only=False, required=True)
    ratio: Literal["auto", "16:9", "9:16", "1:1", "4:3", "3:4", "21:9"] | None = option("ratio")
    duration: Annotated[float, Between(2, 10)] | None = option("duration")
    content_moderation: Literal["auto", "low"] | None = option("contentModeration")
    seed: Annotated[int, Between(0, 4294967295)] | None = option("seed")


GrokImagineVideoAspectRatio: TypeAlias = Literal["auto", "16:9", "9:16", "1:1", "4:3", "3:4", "3:2", "2:3"]


@checked
class GrokImagineVideo(CheckedInputs):
    """Inputs of ``xai/grok-imagine-video``: Grok Imagine Video.

    Args:
        image: First frame: one file, or several.
        prompt: Prompt.
        duration: Duration, in seconds.
        aspect_ratio: Aspect ratio.
        resolution: Resolution.
    """

    model: ClassVar[str] = "xai/grok-imagine-video"

    image: Files | None = sent_as("inputImage", default=None, kw_only=False)
    prompt: str | None = sent_as("prompt", default=None, kw_only=False, required=True)
    duration: Literal[5, 10, 15] | None = option("duration")
    aspect_ratio: GrokImagineVideoAspectRatio | None = option("aspectRatio")
    resolution: Literal["480p", "720p"] | None = option("resolution")


@checked
class HailuoV01(CheckedInputs):
    """Inputs of ``MiniMax/image-to-video-hailuo-01``: Image To Video Hailuo 01.

    Args:
        image: Input Image.
        prompt: Prompt.
    """

    model: ClassVar[str] = "MiniMax/image-to-video-hailuo-01"

    image: File = sent_as("inputImageUrl", kw_only=False)
    prompt: str | None = sent_as("prompt", default=None, kw_only=False)


@checked
class HailuoV01Director(CheckedInputs):
    """Inputs of ``MiniMax/image-to-video-hailuo-01-director``: Image To Video Hailuo 01 Director.

    Args:
        image: Input Image.
        prompt: Prompt.
    """

    model: ClassVar[str] = "MiniMax/image-to-video-hailuo-01-director"

    image: File = sent_as("inputImageUrl", kw_only=False)
    prompt: str | None = sent_as("prompt", default=None, kw_only=False)


@checked
class HailuoV01DirectorText(CheckedInputs):
    """Inputs of ``MiniMax/text-to-video-hailuo-01-director``: Text To Video Hailuo 01 Director.

    Args:
        prompt: Prompt.
    """

    model: ClassVar[str] = "MiniMax/text-to-video-hailuo-01-director"

    prompt: str | None = sent_as("prompt", default=None, kw_only=False)


@checked
class HailuoV01Live(CheckedInputs):
    """Inputs of ``MiniMax/image-to-video-hailuo-01-live``: Image To Video Hailuo 01 Live.

    Args:
        image: Input Image.
        prompt: Prompt.
    """

    model: ClassVar[str] = "MiniMax/image-to-video-hailuo-01-live"

    image: File = sent_as("inputImageUrl", kw_only=False)
    prompt: str | None = sent_as("prompt", default=None, kw_only=False)


@checked
class HailuoV01Text(CheckedInputs):
    """Inputs of ``MiniMax/text-to-video-hailuo-01``: Text To Video Hailuo 01.

    Args:
        prompt: Prompt.
    """

    model: ClassVar[str] = "MiniMax/text-to-video-hailuo-01"

    prompt: str | None = sent_as("prompt", default=None, kw_only=False)


@checked
class HailuoV02(CheckedInputs):
    """Inputs of ``MiniMax/image-to-video-hailuo-02``: Image To Video Hailuo 02.

    Args:
        image: Image First.
        prompt: Prompt.
        image2: Image Last.
        prompt_optimizer: Prompt Optimizer.
        resolution: Resolution.
        duration: Duration, in seconds.
    """

    model: ClassVar[str] = "MiniMax/image-to-video-hailuo-02"

    image: File = sent_as("inputImageUrl", kw_only=False)
    prompt: str | None = sent_as("prompt", default=None, kw_only=False)
    image2: File | None = option("inputImage2Url")
    prompt_optimizer: bool | None = option("promptOptimizer")
    resolution: Literal["1080P", "768P"] | None = option("resolution")
    duration: Literal[6, 10] | None = option("duration")


@checked
class HailuoV02Text(CheckedInputs):
    """Inputs of ``MiniMax/text-to-video-hailuo-02``: Text To Video Hailuo 02.

    Args:
        prompt: Prompt.
        prompt_optimizer: Prompt Optimizer.
        resolution: Resolution.
        duration: Duration, in seconds.
    """

    model: ClassVar[str] = "MiniMax/text-to-video-hailuo-02"

    prompt: str | None = sent_as("prompt", default=None, kw_only=False)
    prompt_optimizer: bool | None = option("promptOptimizer")
    resolution: Literal["1080P", "768P"] | None = option("resolution")
    duration: Literal[6, 10] | None = option("duration")


@checked
class HailuoV23(CheckedInputs):
    """Inputs of ``MiniMax/hailuo-2.3``: MiniMax Hailuo 2.3.

    Args:
        image: Image First.
        prompt: Prompt.
        prompt_optimizer: Prompt Optimizer.
        resolution: Resolution.
        duration: Duration, in seconds.
    """

    model: ClassVar[str] = "MiniMax/hailuo-2.3"

    image: File | None = sent_as("inputImageUrl", default=None, kw_only=False)
    prompt: str | None = sent_as("prompt", default=None, kw_only=False)
    prompt_optimizer: bool | None = option("promptOptimizer")
    resolution: Literal["1080P", "768P"] | None = option("resolution")
    duration: Literal[6, 10] | None = option("duration")


@checked
class HailuoV23Fast(CheckedInputs):
    """Inputs of ``MiniMax/hailuo-2.3-Fast``: MiniMax Hailuo 2.3 Fast.

    Args:
        image: Input Image.
        prompt: Prompt.
        prompt_optimizer: Prompt Optimizer.
        resolution: Resolution.
        duration: Duration, in seconds.
    """

    model: ClassVar[str] = "MiniMax/hailuo-2.3-Fast"

    image: File = sent_as("inputImageUrl", kw_only=False)
    prompt: str | None = sent_as("prompt", default=None, kw_only=False)
    prompt_optimizer: bool | None = option("promptOptimizer")
    resolution: Literal["1080P", "768P"] | None = option("resolution")
    duration: Literal[6, 10] | None = option("duration")


@checked
class HunyuanVideo(CheckedInputs):
    """Inputs of ``wiro/hunyuan_video``: Hunyuan Text to Video.

    Args:
        prompt: Prompt.
        negative_prompt: Negativeprompt.
        scale: Guidancescale.
        embedded_scale: Embedded Guidance Scale.
        video_length: Video Length.
        size: Size.
        steps: Inferencesteps.
        seed: Seed.
    """

    model: ClassVar[str] = "wiro/hunyuan_video"

    prompt: str = sent_as("prompt", kw_only=False)
    negative_prompt: str | None = option("negativePrompt")
    scale: float | None = option("scale")
    embedded_scale: float | None = option("embeddedScale")
    video_length: float | None = option("videoLength")
    size: Literal["720x720", "960x544", "624x832", "832x624", "544x960"] | None = option("size")
    steps: float | None = option("steps")
    seed: int | str | None = option("seed")


@checked
class KlingV3(CheckedInputs):
    """Inputs of ``klingai/kling-v3``: Kling V3 Text-to-Video Generator.

    Args:
        image: First Frame: one file, or several.
        prompt: Prompt (the service's default: 'A heart-pounding GoPro-style POV shot f…').
        mode: Mode (the service's default: 'std').
        image2: Last Frame: one file, or several.
        negative_prompt: Negative Prompt.
        duration: Duration, in seconds (the service's default: 5).
        ratio: Ratio (the service's default: '16:9').
        sound: Sound (the service's default: 'off').
        multi_shot: Multi Shot (the service's default: False).
        shot_type: Shot Type.
        multi_prompt: Multi Prompt (the service's default: "[{'index': 1, 'prompt': 'Two friends ta…").
        scale: CFG Scale.
    """

    model: ClassVar[str] = "klingai/kling-v3"

    image: Files | None = sent_as("inputImage", default=None, kw_only=False)
    prompt: str | None = sent_as("prompt", default=None, kw_only=False)
    mode: Literal["std", "pro"] | None = option("mode")
    image2: Files | None = option("inputImage2")
    negative_prompt: str | None = option("negativePrompt")
    duration: Annotated[int, Between(3, 15)] | None = option("duration")
    ratio: Literal["16:9", "9:16", "1:1"] | None = option("ratio")
    sound: Literal["on", "off"] | None = option("sound")
    multi_shot: bool | None = option("multiShot")
    shot_type: Literal["customize", "intelligence"] | None = option("shotType")
    multi_prompt: str | None = option("multiPrompt")
    scale: float | str | None = option("scale")


@checked
class KlingV3MotionControl(CheckedInputs):
    """Inputs of ``klingai/kling-v3-motion-control``: Kling V3 Motion Control.

    Args:
        image: InputImage: one file, or several.
        prompt: Prompt.
        mode: Mode (the service's default: 'std').
        video: Video: one file, or several.
        original_sound: Keep Original Sound (the service's default: 'yes').
        character_orientation: Character Orientation (the service's default: 'image').
    """

    model: ClassVar[str] = "klingai/kling-v3-motion-control"

    image: Files = sent_as("inputImage", kw_only=False)
    prompt: str | None = sent_as("prompt", default=None, kw_only=False)
    mode: Literal["std", "pro"] | None = option("mode")
    video: Files = sent_as("inputVideo")
    original_sound: Literal["yes", "no"] | None = option("originalSound")
    character_orientation: Literal["image", "video"] | None = option("characterOrientation")


@checked
class KlingV3Omni(CheckedInputs):
    """Inputs of ``klingai/kling-v3-omni``: Kling V3 Omni.

    Args:
        image: First Frame: one file, or several.
        prompt: Prompt (the service's default: 'Mid-shot, tracking profile. The silver …').
        mode: Mode (the service's default: 'std').
        image2: Last Frame: one file, or several.
        image3: Reference Images: one file, or several.
        video: Video: one file, or several.
        refer_type: Video Refer Type (the service's default: 'feature').
        original_sound: Video Original Sound (the service's default: 'no').
        negative_prompt: Negative Prompt.
        duration: Duration, in seconds (the service's default: 5).
        ratio: Ratio (the service's default: '16:9').
        sound: Sound (the service's default: 'off').
        multi_shot: Multi Shot (the service's default: False).
        shot_type: Shot Type.
        multi_prompt: Multi Prompt (the service's default: "[{'index': 1, 'prompt': 'Two friends ta…").
        scale: CFG Scale.
    """

    model: ClassVar[str] = "klingai/kling-v3-omni"

    image: Files | None = sent_as("inputImage", default=None, kw_only=False)
    prompt: str | None = sent_as("prompt", default=None, kw_only=False)
    mode: Literal["std", "pro"] | None = option("mode")
    image2: Files | None = option("inputImage2")
    image3: Files | None = option("inputImage3")
    video: Files | None = option("inputVideo")
    refer_type: Literal["feature", "base"] | None = option("referType")
    original_sound: Literal["no", "yes"] | None = option("originalSound")
    negative_prompt: str | None = option("negativePrompt")
    duration: Annotated[int, Between(3, 15)] | None = option("duration")
    ratio: Literal["16:9", "9:16", "1:1"] | None = option("ratio")
    sound: Literal["on", "off"] | None = option("sound")
    multi_shot: bool | None = option("multiShot")
    shot_type: Literal["customize", "intelligence"] | None = option("shotType")
    multi_prompt: str | None = option("multiPrompt")
    scale: float | str | None = option("scale")


@checked
class KlingV16(CheckedInputs):
    """Inputs of ``klingai/image-to-video-klingai-v1.6``: Image To Video Klingai V1 6.

    Args:
        image: Image First.
        prompt: Prompt.
        image_last: Image Last.
        negative_prompt: Negative Prompt.
        video_seconds: Video Seconds.
        video_mode: Video Mode.
        scale: CFG Scale.
    """

    model: ClassVar[str] = "klingai/image-to-video-klingai-v1.6"

    image: File | None = sent_as("inputImageFirstUrl", default=None, kw_only=False)
    prompt: str | None = sent_as("prompt", default=None, kw_only=False)
    image_last: File | None = option("inputImageLastUrl")
    negative_prompt: str | None = option("negativePrompt")
    video_seconds: Literal[5, 10] | None = option("videoSeconds")
    video_mode: Literal["pro", "std"] | None = option("videoMode")
    scale: float | None = option("scale")


@checked
class KlingV16Text(CheckedInputs):
    """Inputs of ``klingai/text-to-video-klingai-v1.6``: Text To Video Klingai V1 6.

    Args:
        prompt: Prompt.
        negative_prompt: Negative Prompt.
        video_seconds: Video Seconds.
        video_mode: Video Mode.
        scale: CFG Scale.
    """

    model: ClassVar[str] = "klingai/text-to-video-klingai-v1.6"

    prompt: str | None = sent_as("prompt", default=None, kw_only=False)
    negative_prompt: str | None = option("negativePrompt")
    video_seconds: Literal[5, 10] | None = option("videoSeconds")
    video_mode: Literal["pro", "std"] | None = option("videoMode")
    scale: float | None = option("scale")


@checked
class KlingV20(CheckedInputs):
    """Inputs of ``klingai/image-to-video-klingai-v2.0``: Image To Video Klingai V2 0.

    Args:
        image: Image First.
        prompt: Prompt.
        negative_prompt: Negative Prompt.
        video_seconds: Video Seconds.
        scale: CFG Scale.
    """

    model: ClassVar[str] = "klingai/image-to-video-klingai-v2.0"

    image: File | None = sent_as("inputImageFirstUrl", default=None, kw_only=False)
    prompt: str | None = sent_as("prompt", default=None, kw_only=False)
    negative_prompt: str | None = option("negativePrompt")
    video_seconds: Literal[5, 10] | None = option("videoSeconds")
    scale: float | None = option("scale")


@checked
class KlingV20Text(CheckedInputs):
    """Inputs of ``klingai/text-to-video-klingai-v2.0``: Text To Video Klingai V2 0.

    Args:
        prompt: Prompt.
        negative_prompt: Negative Prompt.
        video_seconds: Video Seconds.
        scale: CFG Scale.
    """

    model: ClassVar[str] = "klingai/text-to-video-klingai-v2.0"

    prompt: str | None = sent_as("prompt", default=None, kw_only=False)
    negative_prompt: str | None = option("negativePrompt")
    video_seconds: Literal[5, 10] | None = option("videoSeconds")
    scale: float | None = option("scale")


@checked
class KlingV21(CheckedInputs):
    """Inputs of ``klingai/image-to-video-klingai-v2.1``: Image To Video Klingai V2 1.

    Args:
        image: Image First.
        prompt: Prompt.
        negative_prompt: Negative Prompt.
        mode: Mode.
        video_seconds: Video Seconds.
        scale: CFG Scale.
    """

    model: ClassVar[str] = "klingai/image-to-video-klingai-v2.1"

    image: File | None = sent_as("inputImageFirstUrl", default=None, kw_only=False)
    prompt: str | None = sent_as("prompt", default=None, kw_only=False)
    negative_prompt: str | None = option("negativePrompt")
    mode: Literal["pro", "std"] | None = option("mode")
    video_seconds: Literal[5, 10] | None = option("videoSeconds")
    scale: float | None = option("scale")


@checked
class KlingV21Master(CheckedInputs):
    """Inputs of ``klingai/image-to-video-klingai-v2.1-master``: Image To Video Klingai V2 1 Master.

    Args:
        image: Image First.
        prompt: Prompt.
        negative_prompt: Negative Prompt.
        video_seconds: Video Seconds.
        scale: CFG Scale.
    """

    model: ClassVar[str] = "klingai/image-to-video-klingai-v2.1-master"

    image: File | None = sent_as("inputImageFirstUrl", default=None, kw_only=False)
    prompt: str | None = sent_as("prompt", default=None, kw_only=False)
    negative_prompt: str | None = option("negativePrompt")
    video_seconds: Literal[5, 10] | None = option("videoSeconds")
    scale: float | None = option("scale")


@checked
class KlingV21MasterText(CheckedInputs):
    """Inputs of ``klingai/text-to-video-klingai-v2.1-master``: Text To Video Klingai V2 1 Master.

    Args:
        prompt: Prompt.
        negative_prompt: Negative Prompt.
        video_seconds: Video Seconds.
        scale: CFG Scale.
    """

    model: ClassVar[str] = "klingai/text-to-video-klingai-v2.1-master"

    prompt: str | None = sent_as("prompt", default=None, kw_only=False)
    negative_prompt: str | None = option("negativePrompt")
    video_seconds: Literal[5, 10] | None = option("videoSeconds")
    scale: float | None = option("scale")


@checked
class KlingV25Turbo(CheckedInputs):
    """Inputs of ``klingai/kling-v2.5-turbo``: Kling V2 5 Turbo.

    Args:
        image: First Frame: one file, or several.
        prompt: Prompt (the service's default: 'Static camera shot. A wooden canoe carr…').
        mode: Mode (the service's default: 'std').
        image2: Last Frame: one file, or several.
        negative_prompt: Negative Prompt.
        duration: Duration, in seconds (the service's default: 5).
        ratio: Ratio (the service's default: '16:9').
    """

    model: ClassVar[str] = "klingai/kling-v2.5-turbo"

    image: Files | None = sent_as("inputImage", default=None, kw_only=False)
    prompt: str | None = sent_as("prompt", default=None, kw_only=False)
    mode: Literal["std", "pro"] | None = option("mode")
    image2: Files | None = option("inputImage2")
    negative_prompt: str | None = option("negativePrompt")
    duration: Literal[5, 10] | None = option("duration")
    ratio: Literal["16:9", "9:16", "1:1"] | None = option("ratio")


@checked
class KlingV26(CheckedInputs):
    """Inputs of ``klingai/kling-v2.6``: Kling V2 6.

    Args:
        image: First Frame: one file, or several.
        prompt: Prompt (the service's default: 'The man in the orange hat and blue jack…').
        image2: Last Frame: one file, or several.
        negative_prompt: Negative Prompt.
        duration: Duration, in seconds (the service's default: 5).
        ratio: Ratio (the service's default: '16:9').
        sound: Sound (the service's default: 'off').
    """

    model: ClassVar[str] = "klingai/kling-v2.6"

    image: Files | None = sent_as("inputImage", default=None, kw_only=False)
    prompt: str | None = sent_as("prompt", default=None, kw_only=False)
    image2: Files | None = option("inputImage2")
    negative_prompt: str | None = option("negativePrompt")
    duration: Literal[5, 10] | None = option("duration")
    ratio: Literal["16:9", "9:16", "1:1"] | None = option("ratio")
    sound: Literal["on", "off"] | None = option("sound")


@checked
class KlingV26MotionControl(CheckedInputs):
    """Inputs of ``klingai/kling-v2.6-motion-control``: Kling V2.6 Motion Control.

    Args:
        image: Input Image.
        prompt: Prompt.
        mode: Mode.
        video: Video.
        original_sound: Keep Original Sound.
        character_orientation: Character Orientation.
    """

    model: ClassVar[str] = "klingai/kling-v2.6-motion-control"

    image: File = sent_as("inputImageUrl", kw_only=False)
    prompt: str | None = sent_as("prompt", default=None, kw_only=False)
    mode: Literal["pro", "std"] | None = option("mode")
    video: File = sent_as("inputVideoUrl")
    original_sound: Literal["no", "yes"] | None = option("originalSound")
    character_orientation: Literal["image", "video"] | None = option("characterOrientation")


@checked
class LTXVideoImage2Video(CheckedInputs):
    """Inputs of ``wiroai/LTX-Video-Image2Video``: LTX Image to Video.

    Args:
        image: Input Image.
        prompt: Prompt.
        negative_prompt: Negative Prompt.
        fps: Fps, in frames per second.
        width: Width, in pixels.
        height: Height, in pixels.
        num_frames: Num Frames.
        steps: Inferencesteps.
        seed: Seed.
    """

    model: ClassVar[str] = "wiroai/LTX-Video-Image2Video"

    image: File | None = sent_as("inputImageUrl", default=None, kw_only=False)
    prompt: str | None = sent_as("prompt", default=None, kw_only=False)
    negative_prompt: str | None = option("negativePrompt")
    fps: float | None = option("fps")
    width: float | None = option("width")
    height: float | None = option("height")
    num_frames: float | None = option("numFrames")
    steps: float | None = option("steps")
    seed: int | str | None = option("seed")


@checked
class LTXVideoText2Video(CheckedInputs):
    """Inputs of ``wiroai/LTX-Video-Text2Video``: LTX Text to Video.

    Args:
        prompt: Prompt.
        negative_prompt: Negative Prompt.
        fps: Fps, in frames per second.
        width: Width, in pixels.
        height: Height, in pixels.
        num_frames: Num Frames.
        steps: Inferencesteps.
        seed: Seed.
    """

    model: ClassVar[str] = "wiroai/LTX-Video-Text2Video"

    prompt: str | None = sent_as("prompt", default=None, kw_only=False)
    negative_prompt: str | None = option("negativePrompt")
    fps: float | None = option("fps")
    width: float | None = option("width")
    height: float | None = option("height")
    num_frames: float | None = option("numFrames")
    steps: float | None = option("steps")
    seed: int | str | None = option("seed")


@checked
class LiveAvatar(CheckedInputs):
    """Inputs of ``Alibaba-Quark/Live-Avatar``: Live Avatar.

    Args:
        image: Input image.
        prompt: Prompt (the service's default: 'A stout, cheerful dwarf with a magnific…').
        audio: Input audio.
        seed: Seed (the service's default: '42').
    """

    model: ClassVar[str] = "Alibaba-Quark/Live-Avatar"

    image: File = sent_as("inputImageUrl", kw_only=False)
    prompt: str | None = sent_as("prompt", default=None, kw_only=False)
    audio: File = sent_as("inputAudioUrl")
    seed: int | str | None = option("seed")


@checked
class LivePortrait(CheckedInputs):
    """Inputs of ``wiro/live-portrait``: Live Portrait.

    Args:
        image: Input Image.
        video: Input Video.
    """

    model: ClassVar[str] = "wiro/live-portrait"

    image: File = sent_as("inputImageUrl", kw_only=False)
    video: File = sent_as("inputVideoUrl")


@checked
class LtxV2Distilled(CheckedInputs):
    """Inputs of ``lightricks/ ltx-2-distilled``: Lightricks/LTX-2.

    Args:
        image: Input image.
        prompt: Prompt (the service's default: 'A cinematic close-up of Walter White. H…').
        resolution: Resolution (the service's default: '720P').
        aspect_ratio: Aspect Ratio (the service's default: 'Default').
        seed: Seed (the service's default: '42').
        distil_lora_strength: Image Strength.
    """

    model: ClassVar[str] = "lightricks/ ltx-2-distilled"

    image: File = sent_as("inputImageUrl", kw_only=False)
    prompt: str | None = sent_as("prompt", default=None, kw_only=False)
    resolution: Literal["480P", "580P", "720P", "1080P"] | None = option("resolution")
    aspect_ratio: Literal["Default", "16:9", "9:16", "1:1"] | None = option("aspectRatio")
    seed: int | str | None = option("seed")
    distil_lora_strength: float | str | None = option("distilLoraStrength")


@checked
class LtxV23(CheckedInputs):
    """Inputs of ``lightricks/ ltx-2.3``: Lightricks/LTX-2.3.

    Args:
        image: Input image.
        prompt: Prompt (the service's default: 'A Pixar-style 3D animated chef characte…').
        image2: End Input Image.
        duration: Duration, in seconds (the service's default: 'Default').
        resolution: Resolution (the service's default: '1080P').
        aspect_ratio: Aspect Ratio (the service's default: 'Default').
        seed: Seed (the service's default: '42').
        distil_lora_strength: Image Strength.
    """

    model: ClassVar[str] = "lightricks/ ltx-2.3"

    image: File | None = sent_as("inputImageUrl", default=None, kw_only=False)
    prompt: str | None = sent_as("prompt", default=None, kw_only=False)
    image2: File | None = option("inputImage2Url")
    duration: Literal["Default", "6", "8", "10"] | None = option("duration")
    resolution: Literal["1080P", "1440P", "2160P"] | None = option("resolution")
    aspect_ratio: Literal["Default", "16:9", "9:16", "1:1"] | None = option("aspectRatio")
    seed: int | str | None = option("seed")
    distil_lora_strength: float | str | None = option("distilLoraStrength")


@checked
class LucyEditDev(CheckedInputs):
    """Inputs of ``decart-ai/Lucy-Edit-Dev``: Lucy Edit Dev.

    Args:
        video: Input video.
        prompt: Prompt (the service's default: 'Change the apron and blouse to a classi…').
        negative_prompt: Negativeprompt.
        resolution: Resolution (the service's default: '480P').
        steps: Inferencesteps (the service's default: 40).
        scale: Guidancescale.
        seed: Seed (the service's default: '0').
    """

    model: ClassVar[str] = "decart-ai/Lucy-Edit-Dev"

    video: File | None = sent_as("inputVideo", default=None, kw_only=False)
    prompt: str | None = sent_as("prompt", default=None, kw_only=False)
    negative_prompt: str | None = option("negativePrompt")
    resolution: Literal["480P", "580P", "720P"] | None = option("resolution")
    steps: Annotated[int, Between(1, 50)] | None = option("steps")
    scale: float | str | None = option("scale")
    seed: int | str | None = option("seed")


@checked
class Memo(CheckedInputs):
    """Inputs of ``wiro/memo``: Memo.

    Args:
        image: Input Image.
        audio: Input Audio.
        resolution: Resolution.
        fps: Fps, in frames per second.
        cfg: Config Value.
        steps: Inferencesteps.
        seed: Seed.
    """

    model: ClassVar[str] = "wiro/memo"

    image: File | None = sent_as("inputImageUrl", default=None, kw_only=False)
    audio: File | None = option("inputAudioUrl")
    resolution: float | None = option("resolution")
    fps: float | None = option("fps")
    cfg: float | None = option("cfg")
    steps: float | None = option("steps")
    seed: int | str | None = option("seed")


@checked
class MotionFlow(CheckedInputs):
    """Inputs of ``wiro/MotionFlow``: Motion Flow.

    Args:
        image: Input Image.
        effect_type: Effect Type.
    """

    model: ClassVar[str] = "wiro/MotionFlow"

    image: File = sent_as("inputImageUrl", kw_only=False)
    effect_type: str | None = option("effectType")


OviResolution: TypeAlias = Literal[
    "default",
    "512x992",
    "992x512",
    "960x512",
    "512x960",
    "720x720",
    "448x1120",
    "1120x448",
]


@checked
class Ovi(CheckedInputs):
    """Inputs of ``chetwinlow1/ovi``: Ovi.

    Args:
        image: Input Image: one file, or several.
        prompt: Prompt (the service's default: 'A close-up video of a koala sitting com…').
        negative_prompt: Negativeprompt (the service's default: 'blur, noise, low resolution, unnatural …').
        audio_negative_prompt: Audio Negative Prompt (the service's default: 'robotic, echo, wind distortion,
            metalli…').
        resolution: Resolution (the service's default: 'default').
        steps: Inferencesteps (the service's default: 30).
        seed: Seed (the service's default: '0').
    """

    model: ClassVar[str] = "chetwinlow1/ovi"

    image: Files | None = sent_as("inputImage", default=None, kw_only=False)
    prompt: str | None = sent_as("prompt", default=None, kw_only=False)
    negative_prompt: str | None = option("negativePrompt")
    audio_negative_prompt: str | None = option("audioNegativePrompt")
    resolution: OviResolution | None = option("resolution")
    steps: Annotated[int, Between(1, 500)] | None = option("steps")
    seed: int | str | None = option("seed")


@checked
class PVideo(CheckedInputs):
    """Inputs of ``pruna/p-video``: P-Video: Text-to-Video Generator.

    Args:
        image: Input Image: one file, or several.
        prompt: Prompt (the service's default: "A snowboarder wearing a yellow 'INSTRUC…").
        ratio: Ratio (the service's default: '16:9').
        duration: Duration, in seconds (the service's default: 5).
        resolution: Resolution (the service's default: '720p').
        fps: Fps, in frames per second (the service's default: 24).
        audio: Input Audio: one file, or several.
        seed: Seed (the service's default: '0').
        save_audio: Save Audio (the service's default: False).
        draft: Draft Mode (the service's default: False).
        prompt_upsampling: Prompt Upsampling (the service's default: True).
    """

    model: ClassVar[str] = "pruna/p-video"

    image: Files | None = sent_as("inputImage", default=None, kw_only=False)
    prompt: str | None = sent_as("prompt", default=None, kw_only=False)
    ratio: Literal["1:1", "3:2", "2:3", "4:3", "3:4", "16:9", "9:16"] | None = option("ratio")
    duration: Annotated[float, Between(1, 10)] | None = option("duration")
    resolution: Literal["720p", "1080p"] | None = option("resolution")
    fps: Literal[24, 48] | None = option("fps")
    audio: Files | None = option("inputAudio")
    seed: int | str | None = option("seed")
    save_audio: bool | None = option("saveAudio")
    draft: bool | None = option("draft")
    prompt_upsampling: bool | None = option("promptUpsampling")


@checked
class PixVerseV4(CheckedInputs):
    """Inputs of ``PixVerse/image-to-video-v4``: Image To Video V4.

    Args:
        image: Image.
        prompt: Prompt.
        negative_prompt: Negative Prompt.
        duration: Duration, in seconds.
        quality: Quality.
        motion_mode: Motion Mode.
        style: Style.
        seed: Seed.
        watermark: Watermark.
    """

    model: ClassVar[str] = "PixVerse/image-to-video-v4"

    image: File | None = sent_as("inputImageUrl", default=None, kw_only=False)
    prompt: str | None = sent_as("prompt", default=None, kw_only=False, required=True)
    negative_prompt: str | None = option("negativePrompt")
    duration: Literal[5, 8] | None = option("duration")
    quality: Literal["1080p", "360p", "540p", "720p"] | None = option("quality")
    motion_mode: Literal["fast", "normal"] | None = option("motionMode")
    style: Literal["3d_animation", "anime", "clay", "comic", "cyberpunk"] | None = option("style")
    seed: int | None = option("seed")
    watermark: bool | None = option("Watermark")


@checked
class PixVerseV4Text(CheckedInputs):
    """Inputs of ``PixVerse/text-to-video-v4``: Text To Video V4.

    Args:
        prompt: Prompt.
        negative_prompt: Negative Prompt.
        aspect_ratio: Aspect Ratio.
        duration: Duration, in seconds.
        quality: Quality.
        motion_mode: Motion Mode.
        style: Style.
        seed: Seed.
        watermark: Watermark.
    """

    model: ClassVar[str] = "PixVerse/text-to-video-v4"

    prompt: str = sent_as("prompt", kw_only=False)
    negative_prompt: str | None = option("negativePrompt")
    aspect_ratio: Literal["1:1", "16:9", "3:4", "4:3", "9:16"] | None = option("aspectRatio")
    duration: Literal[5, 8] | None = option("duration")
    quality: Literal["1080p", "360p", "540p", "720p"] | None = option("quality")
    motion_mode: Literal["fast", "normal"] | None = option("motionMode")
    style: Literal["3d_animation", "anime", "clay", "comic", "cyberpunk"] | None = option("style")
    seed: int | None = option("seed")
    watermark: bool | None = option("Watermark")


@checked
class PixVerseV5(CheckedInputs):
    """Inputs of ``PixVerse/image-to-video-v5``: Image To Video V5.

    Args:
        image: Image.
        prompt: Prompt.
        negative_prompt: Negative Prompt.
        duration: Duration, in seconds.
        quality: Quality.
        style: Style.
        seed: Seed.
        watermark: Watermark.
    """

    model: ClassVar[str] = "PixVerse/image-to-video-v5"

    image: File | None = sent_as("inputImageUrl", default=None, kw_only=False)
    prompt: str | None = sent_as("prompt", default=None, kw_only=False, required=True)
    negative_prompt: str | None = option("negativePrompt")
    duration: Literal[5, 8] | None = option("duration")
    quality: Literal["1080p", "360p", "540p", "720p"] | None = option("quality")
    style: Literal["3d_animation", "anime", "clay", "comic", "cyberpunk"] | None = option("style")
    seed: int | None = option("seed")
    watermark: bool | None = option("Watermark")


@checked
class PixVerseV5Text(CheckedInputs):
    """Inputs of ``PixVerse/text-to-video-v5``: Text To Video V5.

    Args:
        prompt: Prompt (the service's default: 'A dynamic, storybook-style illustration…').
        negative_prompt: Negative Prompt.
        aspect_ratio: Aspect Ratio (the service's default: '16:9').
        duration: Duration, in seconds (the service's default: 5).
        quality: Quality (the service's default: '540p').
        style: Style.
        seed: Seed (the service's default: 0).
        watermark: Watermark (the service's default: False).
    """

    model: ClassVar[str] = "PixVerse/text-to-video-v5"

    prompt: str | None = sent_as("prompt", default=None, kw_only=False)
    negative_prompt: str | None = option("negativePrompt")
    aspect_ratio: Literal["16:9", "4:3", "1:1", "3:4", "9:16"] | None = option("aspectRatio")
    duration: Literal[5, 8] | None = option("duration")
    quality: Literal["360p", "540p", "720p", "1080p"] | None = option("quality")
    style: Literal["anime", "3d_animation", "clay", "comic", "cyberpunk"] | None = option("style")
    seed: Annotated[int, Between(0, 2147483647)] | None = option("seed")
    watermark: bool | None = option("Watermark")


@checked
class PixVerseV35(CheckedInputs):
    """Inputs of ``PixVerse/image-to-video-v3.5``: Image To Video V3 5.

    Args:
        image: Image.
        prompt: Prompt.
        negative_prompt: Negative Prompt.
        duration: Duration, in seconds.
        quality: Quality.
        motion_mode: Motion Mode.
        style: Style.
        seed: Seed.
        watermark: Watermark.
    """

    model: ClassVar[str] = "PixVerse/image-to-video-v3.5"

    image: File | None = sent_as("inputImageUrl", default=None, kw_only=False)
    prompt: str | None = sent_as("prompt", default=None, kw_only=False, required=True)
    negative_prompt: str | None = option("negativePrompt")
    duration: Literal[5, 8] | None = option("duration")
    quality: Literal["1080p", "360p", "540p", "720p"] | None = option("quality")
    motion_mode: Literal["fast", "normal"] | None = option("motionMode")
    style: Literal["3d_animation", "anime", "clay", "comic", "cyberpunk"] | None = option("style")
    seed: int | None = option("seed")
    watermark: bool | None = option("Watermark")


@checked
class PixVerseV35Text(CheckedInputs):
    """Inputs of ``PixVerse/text-to-video-v3.5``: Text To Video V3 5.

    Args:
        prompt: Prompt.
        negative_prompt: Negative Prompt.
        aspect_ratio: Aspect Ratio.
        duration: Duration, in seconds.
        quality: Quality.
        motion_mode: Motion Mode.
        style: Style.
        seed: Seed.
        watermark: Watermark.
    """

    model: ClassVar[str] = "PixVerse/text-to-video-v3.5"

    prompt: str = sent_as("prompt", kw_only=False)
    negative_prompt: str | None = option("negativePrompt")
    aspect_ratio: Literal["1:1", "16:9", "3:4", "4:3", "9:16"] | None = option("aspectRatio")
    duration: Literal[5, 8] | None = option("duration")
    quality: Literal["1080p", "360p", "540p", "720p"] | None = option("quality")
    motion_mode: Literal["fast", "normal"] | None = option("motionMode")
    style: Literal["3d_animation", "anime", "clay", "comic", "cyberpunk"] | None = option("style")
    seed: int | None = option("seed")
    watermark: bool | None = option("Watermark")


@checked
class PixVerseV45(CheckedInputs):
    """Inputs of ``PixVerse/image-to-video-v4.5``: Image To Video V4 5.

    Args:
        image: Image.
        prompt: Prompt.
        negative_prompt: Negative Prompt.
        duration: Duration, in seconds.
        quality: Quality.
        motion_mode: Motion Mode.
        style: Style.
        seed: Seed.
        watermark: Watermark.
    """

    model: ClassVar[str] = "PixVerse/image-to-video-v4.5"

    image: File | None = sent_as("inputImageUrl", default=None, kw_only=False)
    prompt: str | None = sent_as("prompt", default=None, kw_only=False, required=True)
    negative_prompt: str | None = option("negativePrompt")
    duration: Literal[5, 8] | None = option("duration")
    quality: Literal["1080p", "360p", "540p", "720p"] | None = option("quality")
    motion_mode: Literal["fast", "normal"] | None = option("motionMode")
    style: Literal["3d_animation", "anime", "clay", "comic", "cyberpunk"] | None = option("style")
    seed: int | None = option("seed")
    watermark: bool | None = option("Watermark")


@checked
class PixVerseV45Text(CheckedInputs):
    """Inputs of ``PixVerse/text-to-video-v4.5``: Text To Video V4 5.

    Args:
        prompt: Prompt.
        negative_prompt: Negative Prompt.
        aspect_ratio: Aspect Ratio.
        duration: Duration, in seconds.
        quality: Quality.
        motion_mode: Motion Mode.
        style: Style.
        seed: Seed.
        watermark: Watermark.
    """

    model: ClassVar[str] = "PixVerse/text-to-video-v4.5"

    prompt: str = sent_as("prompt", kw_only=False)
    negative_prompt: str | None = option("negativePrompt")
    aspect_ratio: Literal["1:1", "16:9", "3:4", "4:3", "9:16"] | None = option("aspectRatio")
    duration: Literal[5, 8] | None = option("duration")
    quality: Literal["1080p", "360p", "540p", "720p"] | None = option("quality")
    motion_mode: Literal["fast", "normal"] | None = option("motionMode")
    style: Literal["3d_animation", "anime", "clay", "comic", "cyberpunk"] | None = option("style")
    seed: int | None = option("seed")
    watermark: bool | None = option("Watermark")


@checked
class ProductAds(CheckedInputs):
    """Inputs of ``wiro/Product Ads``: Product Ads.

    Args:
        image: Input Image.
        video_mode: Video Mode.
        ratio: Ratio.
        effect_type: Effect Type.
    """

    model: ClassVar[str] = "wiro/Product Ads"

    image: File | None = sent_as("inputImageUrl", default=None, kw_only=False)
    video_mode: Literal["pro", "std"] | None = option("videoMode")
    ratio: Literal["1:1", "16:9", "9:16"] | None = option("ratio")
    effect_type: str = sent_as("effectType")


@checked
class ProductAdsWithCaption(CheckedInputs):
    """Inputs of ``wiro/Product Ads with Caption``: Product Ads with Caption.

    Args:
        image: Input Image.
        caption: Caption.
        video_mode: Video Mode.
        ratio: Ratio.
        effect_type: Effect Type.
    """

    model: ClassVar[str] = "wiro/Product Ads with Caption"

    image: File | None = sent_as("inputImageUrl", default=None, kw_only=False)
    caption: str | None = option("caption")
    video_mode: Literal["pro", "std"] | None = option("videoMode")
    ratio: Literal["1:1", "16:9", "9:16"] | None = option("ratio")
    effect_type: str = sent_as("effectType")


@checked
class ProductAdsWithLogo(CheckedInputs):
    """Inputs of ``wiro/Product Ads with Logo``: Product Ads with Logo.

    Args:
        image: Input Image.
        video_mode: Video Mode.
        ratio: Ratio.
        effect_type: Effect Type.
    """

    model: ClassVar[str] = "wiro/Product Ads with Logo"

    image: File | None = sent_as("inputImageUrl", default=None, kw_only=False)
    video_mode: Literal["pro", "std"] | None = option("videoMode")
    ratio: Literal["1:1", "16:9", "9:16"] | None = option("ratio")
    effect_type: str = sent_as("effectType")


@checked
class ProductStudio(CheckedInputs):
    """Inputs of ``wiro/Product Studio``: Product Studio - 360° Product Video Generator.

    Args:
        image: Input Image.
        ratio: Ratio.
        effect_type: Effect Type.
    """

    model: ClassVar[str] = "wiro/Product Studio"

    image: File | None = sent_as("inputImageUrl", default=None, kw_only=False)
    ratio: Literal["1:1", "16:9", "9:16"] | None = option("ratio")
    effect_type: str = sent_as("effectType")


@checked
class ProductWithModel(CheckedInputs):
    """Inputs of ``wiro/Product with Model``: Product Model Video Generator.

    Args:
        image: Product Images.
        image2: Model Image.
        image3: Background Image.
        image4: Composed Image.
        ratio: Ratio.
        effect_type: Effect Type.
    """

    model: ClassVar[str] = "wiro/Product with Model"

    image: File | None = sent_as("inputImageUrl", default=None, kw_only=False)
    image2: File | None = option("inputImage2Url")
    image3: File | None = option("inputImage3Url")
    image4: File | None = option("inputImage4Url")
    ratio: Literal["1:1", "16:9", "9:16"] | None = option("ratio")
    effect_type: str = sent_as("effectType")


@checked
class SeedanceLiteV1(CheckedInputs):
    """Inputs of ``ByteDance/image-to-video-seedance-lite-v1``: Image To Video Seedance Lite V1.

    Args:
        image: Image.
        prompt: Prompt.
        image_last: Last Image.
        resolution: Resolution.
        ratio: Ratio.
        duration: Duration, in seconds.
        watermark: Watermark.
        seed: Seed.
        camerafixed: Fix Camera.
    """

    model: ClassVar[str] = "ByteDance/image-to-video-seedance-lite-v1"

    image: File | None = sent_as("inputImageUrl", default=None, kw_only=False)
    prompt: str | None = sent_as("prompt", default=None, kw_only=False)
    image_last: File | None = option("inputImageLastUrl")
    resolution: Literal["1080p", "480p", "720p"] | None = option("resolution")
    ratio: Literal["1:1", "16:9", "21:9", "3:4", "4:3", "9:16", "9:21", "adaptive"] | None = option("ratio")
    duration: Literal[5, 10] | None = option("duration")
    watermark: bool | None = option("watermark")
    seed: int | None = option("seed")
    camerafixed: bool | None = option("camerafixed")


@checked
class SeedanceLiteV1Text(CheckedInputs):
    """Inputs of ``ByteDance/text-to-video-seedance-lite-v1``: Text To Video Seedance Lite V1.

    Args:
        prompt: Prompt.
        resolution: Resolution.
        ratio: Ratio.
        duration: Duration, in seconds.
        watermark: Watermark.
        seed: Seed.
        camerafixed: Fix Camera.
    """

    model: ClassVar[str] = "ByteDance/text-to-video-seedance-lite-v1"

    prompt: str | None = sent_as("prompt", default=None, kw_only=False)
    resolution: Literal["1080p", "480p", "720p"] | None = option("resolution")
    ratio: Literal["1:1", "16:9", "21:9", "3:4", "4:3", "9:16", "9:21", "adaptive"] | None = option("ratio")
    duration: Literal[5, 10] | None = option("duration")
    watermark: bool | None = option("watermark")
    seed: int | None = option("seed")
    camerafixed: bool | None = option("camerafixed")


@checked
class SeedanceProV1(CheckedInputs):
    """Inputs of ``ByteDance/seedance-pro-v1``: Seedance Pro V1.

    Args:
        image: First Frame Image.
        prompt: Prompt.
        image_last: Last Frame Image.
        resolution: Resolution.
        ratio: Ratio.
        duration: Duration, in seconds.
        watermark: Watermark.
        seed: Seed.
        camerafixed: Fix Camera.
    """

    model: ClassVar[str] = "ByteDance/seedance-pro-v1"

    image: File | None = sent_as("inputImageUrl", default=None, kw_only=False)
    prompt: str | None = sent_as("prompt", default=None, kw_only=False)
    image_last: File | None = option("inputImageLastUrl")
    resolution: Literal["1080p", "480p"] | None = option("resolution")
    ratio: Literal["1:1", "16:9", "21:9", "3:4", "4:3", "9:16", "9:21", "adaptive"] | None = option("ratio")
    duration: Literal[5, 10] | None = option("duration")
    watermark: bool | None = option("watermark")
    seed: int | None = option("seed")
    camerafixed: bool | None = option("camerafixed")


@checked
class SeedanceProV15(CheckedInputs):
    """Inputs of ``ByteDance/seedance-pro-v1.5``: Seedance Pro V1 5.

    Args:
        image: First frame image: one file, or several.
        prompt: Prompt (the service's default: 'A bright, sunny morning in a modern met…').
        image_last: Last frame image: one file, or several.
        resolution: Resolution (the service's default: '480p').
        ratio: Ratio (the service's default: 'adaptive').
        duration: Duration, in seconds (the service's default: 5).
        generate_audio: Generate Audio (the service's default: True).
        watermark: Watermark (the service's default: False).
        seed: Seed (the service's default: 1).
        camerafixed: Fix camera (the service's default: False).
    """

    model: ClassVar[str] = "ByteDance/seedance-pro-v1.5"

    image: Files | None = sent_as("inputImage", default=None, kw_only=False)
    prompt: str | None = sent_as("prompt", default=None, kw_only=False)
    image_last: Files | None = option("inputImageLast")
    resolution: Literal["480p", "720p", "1080p"] | None = option("resolution")
    ratio: Literal["adaptive", "16:9", "4:3", "1:1", "3:4", "9:16", "21:9"] | None = option("ratio")
    duration: Annotated[int, Between(4, 12)] | None = option("duration")
    generate_audio: bool | None = option("generateAudio")
    watermark: bool | None = option("watermark")
    seed: Annotated[int, Between(-1, 4294967295)] | None = option("seed")
    camerafixed: bool | None = option("camerafixed")


@checked
class SeedanceProV15Uncensored(CheckedInputs):
    """Inputs of ``ByteDance/seedance-pro-v1.5-uncensored``: Seedance Pro V1.5 Uncensored Video Generator.

    Args:
        image: First frame image: one file, or several.
        prompt: Prompt.
        image_last: Last frame image: one file, or several.
        resolution: Resolution (the service's default: '480p').
        ratio: Ratio (the service's default: 'adaptive').
        duration: Duration, in seconds (the service's default: 5).
        generate_audio: Generate Audio (the service's default: True).
        watermark: Watermark (the service's default: False).
        seed: Seed (the service's default: 1).
        camera_fixed: Fix camera (the service's default: False).
    """

    model: ClassVar[str] = "ByteDance/seedance-pro-v1.5-uncensored"

    image: Files | None = sent_as("inputImage", default=None, kw_only=False)
    prompt: str | None = sent_as("prompt", default=None, kw_only=False)
    image_last: Files | None = option("inputImageLast")
    resolution: Literal["480p", "720p", "1080p"] | None = option("resolution")
    ratio: Literal["adaptive", "16:9", "4:3", "1:1", "3:4", "9:16", "21:9"] | None = option("ratio")
    duration: Literal[5, 10] | None = option("duration")
    generate_audio: bool | None = option("generateAudio")
    watermark: bool | None = option("watermark")
    seed: Annotated[int, Between(-1, 4294967295)] | None = option("seed")
    camera_fixed: bool | None = option("cameraFixed")


@checked
class SeedanceV1ProFast(CheckedInputs):
    """Inputs of ``ByteDance/seedance-v1-pro-fast``: Seedance V1 Pro Fast - Video Generator.

    Args:
        image: Image: one file, or several.
        prompt: Prompt (the service's default: 'Cinematic documentary shot. The elderly…').
        resolution: Resolution (the service's default: '480p').
        ratio: Ratio (the service's default: 'adaptive').
        duration: Duration, in seconds (the service's default: 5).
        watermark: Watermark (the service's default: False).
        seed: Seed (the service's default: 1).
        camera_fixed: Fix camera (the service's default: False).
    """

    model: ClassVar[str] = "ByteDance/seedance-v1-pro-fast"

    image: Files | None = sent_as("inputImage", default=None, kw_only=False)
    prompt: str | None = sent_as("prompt", default=None, kw_only=False)
    resolution: Literal["480p", "720p", "1080p"] | None = option("resolution")
    ratio: Literal["adaptive", "16:9", "4:3", "1:1", "3:4", "9:16", "21:9"] | None = option("ratio")
    duration: Literal[5, 10] | None = option("duration")
    watermark: bool | None = option("watermark")
    seed: Annotated[int, Between(0, 99999999)] | None = option("seed")
    camera_fixed: bool | None = option("cameraFixed")


@checked
class SeedanceV20(CheckedInputs):
    """Inputs of ``bytedance/seedance-2-0``: Seedance 2.0.

    Args:
        image: First frame: one file, or several.
        prompt: Prompt.
        resolution: Resolution.
        ratio: Ratio.
        duration: Duration, in seconds.
        generate_audio: Generate audio.
        image_last: Last frame: one file, or several.
        image_reference: Reference images: one file, or several.
        audio: Reference audio: one file, or several.
        prompt_enhancement: Prompt enhancement.
        watermark: Watermark.
        seed: Seed.
    """

    model: ClassVar[str] = "bytedance/seedance-2-0"

    image: Files | None = sent_as("inputImage", default=None, kw_only=False)
    prompt: str | None = sent_as("prompt", default=None, kw_only=False)
    resolution: Literal["480p", "720p", "1080p", "4k"] | None = option("resolution")
    ratio: Literal["adaptive", "16:9", "4:3", "1:1", "3:4", "9:16", "21:9"] | None = option("ratio")
    duration: Literal[4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15] | None = option("duration")
    generate_audio: bool | None = option("generateAudio")
    image_last: Files | None = option("inputImageLast")
    image_reference: Files | None = option("inputImageReference")
    audio: Files | None = option("inputAudio")
    prompt_enhancement: bool | None = option("promptEnhancement")
    watermark: bool | None = option("watermark")
    seed: Annotated[int, Between(0, None)] | None = option("seed")


@checked
class SkyReelsV1(CheckedInputs):
    """Inputs of ``wiro/SkyReels-V1``: SkyReels Image To Video.

    Args:
        image: Input Image.
        prompt: Prompt.
        negative_prompt: Negativeprompt.
        scale: Guidancescale.
        num_frames: Num Frames.
        size: Size.
        steps: Inferencesteps.
    """

    model: ClassVar[str] = "wiro/SkyReels-V1"

    image: File | None = sent_as("inputImageUrl", default=None, kw_only=False)
    prompt: str | None = sent_as("prompt", default=None, kw_only=False, required=True)
    negative_prompt: str | None = option("negativePrompt")
    scale: float | None = option("scale")
    num_frames: float | None = option("numFrames")
    size: Literal["960x544", "544x960"] | None = option("size")
    steps: float | None = option("steps")


@checked
class SoraV2(CheckedInputs):
    """Inputs of ``openai/sora-2``: Sora 2.

    Args:
        image: Input Image: one file, or several.
        prompt: Prompt (the service's default: 'She turns around and smiles, then slowl…').
        seconds: Seconds (the service's default: 4).
        resolution: Resolution (the service's default: '720p').
        ratio: Ratio (the service's default: 'auto').
    """

    model: ClassVar[str] = "openai/sora-2"

    image: Files | None = sent_as("inputImage", default=None, kw_only=False)
    prompt: str | None = sent_as("prompt", default=None, kw_only=False)
    seconds: Literal[4, 8, 12] | None = option("seconds")
    resolution: Literal["720p"] | None = option("resolution")
    ratio: Literal["16:9", "9:16", "auto"] | None = option("ratio")


@checked
class SoraV2Pro(CheckedInputs):
    """Inputs of ``openai/sora-2-pro``: Sora 2 Pro.

    Args:
        image: Input Image: one file, or several.
        prompt: Prompt (the service's default: 'A narrow dirt road cuts through grassy …').
        seconds: Seconds (the service's default: 4).
        resolution: Resolution (the service's default: '720p').
        ratio: Ratio (the service's default: 'auto').
    """

    model: ClassVar[str] = "openai/sora-2-pro"

    image: Files | None = sent_as("inputImage", default=None, kw_only=False)
    prompt: str | None = sent_as("prompt", default=None, kw_only=False)
    seconds: Literal[4, 8, 12] | None = option("seconds")
    resolution: Literal["720p", "1080p"] | None = option("resolution")
    ratio: Literal["16:9", "9:16", "auto"] | None = option("ratio")


@checked
class T2vTurbo(CheckedInputs):
    """Inputs of ``wiro/t2v_turbo``: Text to Video Turbo.

    Args:
        prompt: Prompt.
        steps: Inferencesteps.
        width: Width, in pixels.
        height: Height, in pixels.
        scale: Guidancescale.
        seed: Seed.
        frames: Frames.
        fps: Fps, in frames per second.
    """

    model: ClassVar[str] = "wiro/t2v_turbo"

    prompt: str | None = sent_as("prompt", default=None, kw_only=False)
    steps: float | None = option("steps")
    width: float | None = option("width")
    height: float | None = option("height")
    scale: float | None = option("scale")
    seed: int | str | None = option("seed")
    frames: float | None = option("frames")
    fps: float | None = option("fps")


@checked
class Transition(CheckedInputs):
    """Inputs of ``PixVerse/Transition``: Transition.

    Args:
        image: Image.
        prompt: Prompt.
        model_: Model.
        image2: Image 2.
        duration: Duration, in seconds.
        quality: Quality.
        motion_mode: Motion Mode.
        seed: Seed.
    """

    model: ClassVar[str] = "PixVerse/Transition"

    image: File | None = sent_as("inputImageUrl", default=None, kw_only=False)
    prompt: str | None = sent_as("prompt", default=None, kw_only=False, required=True)
    model_: Literal["v3.5", "v4", "v4.5", "v5"] | None = option("model")
    image2: File | None = option("inputImage2Url")
    duration: Literal[5, 8] | None = option("duration")
    quality: Literal["1080p", "360p", "540p", "720p"] | None = option("quality")
    motion_mode: Literal["fast", "normal"] | None = option("motionMode")
    seed: int | None = option("seed")


UgcCreatorEffectType: TypeAlias = Literal[
    "restaurant+&+cafe-kitchen-woman+bandana+chef",
    "restaurant+&+cafe-kitchen-woman+blonde+headband",
    "restaurant+&+cafe-kitchen-woman+brunette+bandana",
    "restaurant+&+cafe-kitchen-woman+cap+barista",
    "restaurant+&+cafe-kitchen-man+blonde+chef",
    "restaurant+&+cafe-kitchen-man+wavy+barista",
    "restaurant+&+cafe-kitchen-man+asian+chef",
    "restaurant+&+cafe-kitchen-man+cornrows+barista",
    "restaurant+&+cafe-cafe-woman+blonde+glasses",
    "restaurant+&+cafe-cafe-woman+black+afro",
    "restaurant+&+cafe-cafe-woman+redhead+wavy",
    "restaurant+&+cafe-cafe-woman+brunette+updo",
    "restaurant+&+cafe-cafe-woman+black+wavy",
    "restaurant+&+cafe-cafe-man+blonde+slickedback",
    "restaurant+&+cafe-cafe-man+wavy+brown",
    "restaurant+&+cafe-cafe-man+platinum+sunglasses",
    "restaurant+&+cafe-cafe-man+asian+dark",
    "restaurant+&+cafe-cafe-man+cornrows+tattoo",
    "restaurant+&+cafe-cafe-man+asian+green",
    "health+&+sports-studio-man+tattoo+buzzcut+flexing",
    "health+&+sports-studio-man+black+muscular",
    "health+&+sports-studio-woman+brunette+wavy+headband",
    "health+&+sports-studio-man+asian+jacket",
    "health+&+sports-studio-woman+ginger+freckles",
    "health+&+sports-studio-man+curly+muscular+bench",
    "health+&+sports-studio-man+platinum+shaker+table",
    "health+&+sports-studio-man+platinum+jacket",
    "health+&+sports-studio-woman+platinum+curly",
    "health+&+sports-studio-woman+blonde+ponytail",
    "health+&+sports-outdoor-woman+brunette+wavy+airport",
    "health+&+sports-outdoor-man+mature+hiking+mountain",
    "health+&+sports-outdoor-man+platinum+garden",
    "health+&+sports-outdoor-man+asian+meadow",
    "health+&+sports-outdoor-man+asian+basketball",
    "health+&+sports-outdoor-man+mature+lounge",
    "health+&+sports-outdoor-man+braids+hiking",
    "health+&+sports-outdoor-woman+brunette+ponytail+park",
    "health+&+sports-outdoor-woman+brunette+meadow",
    "health+&+sports-outdoor-woman+redbraids+basketball",
    "health+&+sports-outdoor-woman+afro+park",
    "health+&+sports-outdoor-woman+redhead+straight+airport",
    "health+&+sports-outdoor-woman+redbraids+hiking",
    "health+&+sports-outdoor-woman+blonde+headband+meadow",
    "health+&+sports-outdoor-woman+brunette+cap+track",
    "health+&+sports-outdoor-man+platinum+basketball",
    "health+&+sports-kitchen-woman+dark+wavy",
    "health+&+sports-kitchen-woman+brunette+ponytail",
    "health+&+sports-kitchen-woman+blonde+bun",
    "health+&+sports-kitchen-man+asian+cap",
    "health+&+sports-kitchen-man+dark+tiedye",
    "health+&+sports-kitchen-man+dark+fridge",
    "health+&+sports-kitchen-man+dark+tanktop",
    "health+&+sports-kitchen-woman+blonde+fridge",
    "health+&+sports-kitchen-woman+blonde+fridgepov",
    "health+&+sports-kitchen-man+cornrows+fridge",
    "health+&+sports-kitchen-man+braids+fridgepov",
    "health+&+sports-gym-woman+curly+headband",
    "health+&+sports-gym-woman+redhead+braids",
    "health+&+sports-gym-woman+curly+boxing",
    "health+&+sports-gym-woman+platinum+boxing",
    "health+&+sports-gym-man+cornrows+tattoos",
    "health+&+sports-gym-woman+platinum+sportsbra",
    "health+&+sports-gym-woman+blonde+green",
    "health+&+sports-gym-woman+blonde+locker",
    "health+&+sports-gym-woman+dark+bun",
    "health+&+sports-gym-woman+brunette+freckles",
    "health+&+sports-gym-woman+dark+locker",
    "health+&+sports-gym-woman+redhead+freckles",
    "health+&+sports-car-woman+blonde+freckles",
    "health+&+sports-car-woman+blonde+braid",
    "health+&+sports-car-man+dark+tanktop",
    "health+&+sports-car-man+braids+tattoos",
    "health+&+sports-car-woman+blonde+sunglasses",
    "health+&+sports-car-man+twists+plaid",
    "health+&+sports-car-woman+dark+hoodie",
    "health+&+sports-car-man+dark+hoodie",
    "fashion-studio-woman+dark+straight",
    "fashion-studio-woman+redhead+tanktop",
    "fashion-studio-woman+blonde+bangs",
    "fashion-studio-man+curly+grey",
    "fashion-studio-man+brown+silver",
    "fashion-studio-woman+dark+grey",
    "fashion-studio-woman+blonde+black",
    "fashion-studio-woman+redhead+denim",
    "fashion-dressingroom-woman+brunette+wavy",
    "fashion-dressingroom-woman+redhead+freckles",
    "fashion-dressingroom-woman+redhead+green",
    "fashion-dressingroom-man+curly+dark",
    "fashion-dressingroom-woman+dark+short",
    "fashion-dressingroom-woman+blonde+black",
    "fashion-accessories-woman+redhead+freckles",
    "fashion-accessories-man+curly+brown",
    "fashion-accessories-man+brown+black",
    "fashion-accessories-woman+dark+grey",
    "electronic-studio-man+curly+dark",
    "electronic-studio-man+curly+white",
    "electronic-studio-man+blonde+grey",
    "electronic-studio-woman+redhead+white",
    "electronic-studio-woman+redhead+navy",
    "electronic-studio-woman+blonde+turtleneck",
    "electronic-outdoor-man+blonde+hoodie",
    "electronic-outdoor-man+buzzcut+sweater",
    "electronic-outdoor-man+wavy+blue",
    "electronic-outdoor-woman+blonde+tank",
    "electronic-outdoor-man+wavy+sweatshirt",
    "electronic-outdoor-man+brown+bomber",
    "electronic-outdoor-man+curly+grey",
    "electronic-outdoor-woman+dark+bob",
    "electronic-outdoor-man+dark+casual",
    "electronic-outdoor-man+curly+freckles",
    "electronic-kitchen-man+blonde+beige",
    "electronic-kitchen-man+curly+cardigan",
    "electronic-kitchen-man+curly+stubble",
    "electronic-kitchen-woman+redhead+freckles",
    "electronic-kitchen-woman+brunette+neon",
    "electronic-decorative-woman+dark+blue",
    "electronic-decorative-man+curly+vneck",
    "electronic-decorative-man+curly+sunset",
    "electronic-decorative-man+blonde+polo",
    "electronic-decorative-man+wavy+tan",
    "electronic-decorative-woman+redhead+dark",
    "electronic-decorative-woman+redhead+warm",
    "electronic-decorative-man+brown+slat",
    "electronic-decorative-man+brown+black",
    "electronic-decorative-man+curly+olive",
    "electronic-decorative-man+mature+denim",
    "electronic-gamer-man+blonde+hoodie",
    "electronic-gamer-man+blonde+knit",
    "electronic-gamer-man+wavy+charcoal",
    "electronic-gamer-man+wavy+olive",
    "electronic-gamer-woman+redhead+black",
    "electronic-gamer-woman+blonde+earrings",
    "electronic-gamer-woman+dark+blue",
    "electronic-car-woman+redhead+freckles",
    "electronic-car-woman+brunette+bob",
    "electronic-car-man+curly+charcoal",
    "electronic-car-man+brown+black",
    "electronic-car-man+dark+polo",
    "electronic-car-man+curly+grey",
    "electronic-car-man+blonde+blue",
    "electronic-bathroom-woman+redhead+teal",
    "electronic-bathroom-woman+blonde+bangs",
    "electronic-bathroom-woman+dark+wavy",
    "electronic-bathroom-man+curly+teal",
    "electronic-bathroom-man+blonde+teal",
    "electronic-bathroom-man+wavy+black",
    "electronic-bathroom-man+dark+brush",
    "electronic-bathroom-man+brown+led",
    "electronic-bathroom-man+mature+navy",
    "beauty-studio-woman+blonde+dewy",
    "beauty-studio-woman+curly+serum",
    "beauty-studio-woman+freckled+glasses",
    "beauty-studio-woman+curly+orchid",
    "beauty-studio-woman+curly+blue",
    "beauty-studio-woman+blonde+blue",
    "beauty-studio-woman+blonde+closeup",
    "beauty-studio-woman+rainbow+makeup",
    "beauty-studio-woman+blonde+glam",
    "beauty-studio-woman+pink+fur",
    "beauty-studio-woman+redhead+purple",
    "beauty-studio-woman+dark+purple",
    "beauty-studio-man+blonde+vest",
    "beauty-studio-man+curly+chains",
    "beauty-studio-man+bucket+colorful",
    "beauty-studio-man+auburn+natural",
    "beauty-studio-man+buzzcut+amber",
    "beauty-studio-man+wavy+white",
    "beauty-studio-man+dark+brown",
    "beauty-dressingroom-woman+gold+rainbow",
    "beauty-dressingroom-woman+redhead+luxury",
    "beauty-dressingroom-woman+curly+warm",
    "beauty-dressingroom-woman+marble+cream",
    "beauty-dressingroom-woman+auburn+pink",
    "beauty-dressingroom-woman+ginger+marble",
    "beauty-dressingroom-man+taupe+gold",
    "beauty-dressingroom-man+beige+grey",
    "beauty-dressingroom-man+black+gold",
    "beauty-dressingroom-man+blonde+cream",
    "beauty-car-woman+denim+sunroof",
    "beauty-car-woman+black+luxury",
    "beauty-car-woman+leather+night",
    "beauty-car-woman+blonde+night",
    "beauty-car-woman+cognac+skyline",
    "beauty-car-man+dark+bokeh",
    "beauty-car-man+beige+night",
    "beauty-car-man+silver+jacket",
    "beauty-car-man+navy+elegant",
    "beauty-bedroom-woman+beige+cozy",
    "beauty-bedroom-woman+blonde+neutral",
    "beauty-bedroom-woman+warm+lamp",
    "beauty-bedroom-woman+white+glam",
    "beauty-bedroom-woman+pink+cozy",
    "beauty-bedroom-man+green+couch",
    "beauty-bedroom-woman+white+modern",
    "beauty-bedroom-man+beige+minimal",
    "beauty-bathroom-woman+white+orchid",
    "beauty-bathroom-woman+marble+vanity",
    "beauty-bathroom-woman+teal+tiles",
    "beauty-bathroom-woman+beige+bathtub",
    "beauty-bathroom-woman+warm+shelves",
    "beauty-bathroom-man+blue+tiles",
    "beauty-bathroom-man+teal+pointing",
    "beauty-bathroom-man+navy+selfie",
    "beauty-bathroom-man+teal+modern",
    "beauty-bathroom-man+gold+accents",
]


@checked
class UgcCreator(CheckedInputs):
    """Inputs of ``wiro/ugc creator``: UGC Creator for Product Ads.

    Args:
        image: Input Image: one file, or several.
        effect_type: Effect Type (the service's default: 'beauty-studio-woman+blonde+dewy').
        mode: Mode (the service's default: 'std').
        script: Script (the service's default: 'Perfect scent').
        ratio: Ratio (the service's default: '9:16').
        image2: Model Image: one file, or several.
    """

    model: ClassVar[str] = "wiro/ugc creator"

    image: Files = sent_as("inputImage", kw_only=False)
    effect_type: UgcCreatorEffectType | None = option("effectType")
    mode: Literal["std", "pro"] | None = option("mode")
    script: str | None = option("script")
    ratio: Literal["16:9", "9:16", "1:1"] | None = option("ratio")
    image2: Files | None = option("inputImage2")


VaceSpeedMode: TypeAlias = Literal[
    "Extra Juiced 🚀 (even more speed)",
    "Juiced 🔥 (more speed)",
    "Lightly Juiced 🍊 (more consistent)",
]


@checked
class Vace(CheckedInputs):
    """Inputs of ``pruna/vace``: Vace.

    Args:
        image: Images.
        prompt: Prompt.
        resolution: Resolution.
        ratio: Aspect Ratio.
        frame_num: Frame Number.
        speed_mode: Speed Mode.
        sample_steps: Sample Steps.
        sample_solver: Sample Solver.
        guidance_scale: Guidance Scale.
        sample_shift: Sample Shift.
        seed: Seed.
    """

    model: ClassVar[str] = "pruna/vace"

    image: File | None = sent_as("inputImageUrl", default=None, kw_only=False)
    prompt: str | None = sent_as("prompt", default=None, kw_only=False, required=True)
    resolution: Literal["480p", "720p"] | None = option("resolution")
    ratio: Literal["16:9", "9:16", "auto"] | None = option("ratio")
    frame_num: float | str | None = option("frameNum")
    speed_mode: VaceSpeedMode | None = option("speedMode")
    sample_steps: float | str | None = option("sampleSteps")
    sample_solver: Literal["dpm++", "unipc"] | None = option("sampleSolver")
    guidance_scale: float | str | None = option("guidanceScale")
    sample_shift: float | str | None = option("sampleShift")
    seed: int | str | None = option("seed")


@checked
class Veo3(CheckedInputs):
    """Inputs of ``google/veo3``: Veo3.

    Args:
        image: Input Image.
        prompt: Prompt.
        generate_audio: Generate Audio.
        aspect_ratio: Aspect Ratio.
        resolution: Resolution.
        negative_prompt: Negative Prompt.
        enhance_prompt: Enhance Prompt.
        person_generation: Person Generation.
        seed: Seed.
        duration_seconds: Duration Seconds.
    """

    model: ClassVar[str] = "google/veo3"

    image: File | None = sent_as("inputImageUrl", default=None, kw_only=False)
    prompt: str | None = sent_as("prompt", default=None, kw_only=False, required=True)
    generate_audio: bool | None = option("generateAudio")
    aspect_ratio: Literal["16:9", "9:16", "match_input_image"] | None = option("aspectRatio")
    resolution: Literal["1080p", "720p"] | None = option("resolution")
    negative_prompt: str | None = option("negativePrompt")
    enhance_prompt: bool | None = option("enhancePrompt")
    person_generation: Literal["allow_adult", "dont_allow"] | None = option("personGeneration")
    seed: int | None = option("seed")
    duration_seconds: Literal[4, 6, 8] | None = option("durationSeconds")


@checked
class Veo3Fast(CheckedInputs):
    """Inputs of ``google/veo3-fast``: Veo3 Fast.

    Args:
        image: Input Image.
        prompt: Prompt.
        generate_audio: Generate Audio.
        aspect_ratio: Aspect Ratio.
        resolution: Resolution.
        negative_prompt: Negative Prompt.
        enhance_prompt: Enhance Prompt.
        person_generation: Person Generation.
        seed: Seed.
        duration_seconds: Duration Seconds.
    """

    model: ClassVar[str] = "google/veo3-fast"

    image: File | None = sent_as("inputImageUrl", default=None, kw_only=False)
    prompt: str | None = sent_as("prompt", default=None, kw_only=False, required=True)
    generate_audio: bool | None = option("generateAudio")
    aspect_ratio: Literal["16:9", "9:16", "match_input_image"] | None = option("aspectRatio")
    resolution: Literal["1080p", "720p"] | None = option("resolution")
    negative_prompt: str | None = option("negativePrompt")
    enhance_prompt: bool | None = option("enhancePrompt")
    person_generation: Literal["allow_adult", "dont_allow"] | None = option("personGeneration")
    seed: int | None = option("seed")
    duration_seconds: Literal[4, 6, 8] | None = option("durationSeconds")


@checked
class Veo31(CheckedInputs):
    """Inputs of ``google/veo3.1``: Veo3 1.

    Args:
        image: First Frame.
        prompt: Prompt.
        image2: Last Frame.
        image3: Reference Images.
        generate_audio: Generate Audio.
        aspect_ratio: Aspect Ratio.
        resolution: Resolution.
        negative_prompt: Negative Prompt.
        enhance_prompt: Enhance Prompt.
        person_generation: Person Generation.
        seed: Seed.
        duration_seconds: Duration Seconds.
    """

    model: ClassVar[str] = "google/veo3.1"

    image: File | None = sent_as("inputImageUrl", default=None, kw_only=False)
    prompt: str | None = sent_as("prompt", default=None, kw_only=False)
    image2: File | None = option("inputImage2Url")
    image3: File | None = option("inputImage3Url")
    generate_audio: bool | None = option("generateAudio")
    aspect_ratio: Literal["16:9", "9:16", "match_input_image"] | None = option("aspectRatio")
    resolution: Literal["1080p", "720p"] | None = option("resolution")
    negative_prompt: str | None = option("negativePrompt")
    enhance_prompt: bool | None = option("enhancePrompt")
    person_generation: Literal["allow_adult", "dont_allow"] | None = option("personGeneration")
    seed: int | None = option("seed")
    duration_seconds: Literal[4, 6, 8] | None = option("durationSeconds")


@checked
class Veo31Fast(CheckedInputs):
    """Inputs of ``google/veo3.1-fast``: Veo 3.1 Fast.

    Args:
        image: First Frame.
        prompt: Prompt.
        image2: Last Frame.
        generate_audio: Generate Audio.
        aspect_ratio: Aspect Ratio.
        resolution: Resolution.
        negative_prompt: Negative Prompt.
        enhance_prompt: Enhance Prompt.
        person_generation: Person Generation.
        seed: Seed.
        duration_seconds: Duration Seconds.
    """

    model: ClassVar[str] = "google/veo3.1-fast"

    image: File | None = sent_as("inputImageUrl", default=None, kw_only=False)
    prompt: str | None = sent_as("prompt", default=None, kw_only=False)
    image2: File | None = option("inputImage2Url")
    generate_audio: bool | None = option("generateAudio")
    aspect_ratio: Literal["16:9", "9:16", "match_input_image"] | None = option("aspectRatio")
    resolution: Literal["1080p", "720p"] | None = option("resolution")
    negative_prompt: str | None = option("negativePrompt")
    enhance_prompt: bool | None = option("enhancePrompt")
    person_generation: Literal["allow_adult", "dont_allow"] | None = option("personGeneration")
    seed: int | None = option("seed")
    duration_seconds: Literal[4, 6, 8] | None = option("durationSeconds")


@checked
class Vgen(CheckedInputs):
    """Inputs of ``wiro/vgen``: Vgen.

    Args:
        image: Input Image.
        prompt: Prompt.
        negative_prompt: Negativeprompt.
        steps: Inferencesteps.
        scale: Guidancescale.
        seed: Seed.
        width: Width, in pixels.
        height: Height, in pixels.
        num_frames: Num Frames.
        fps: Fps, in frames per second.
    """

    model: ClassVar[str] = "wiro/vgen"

    image: File | None = sent_as("inputImageUrl", default=None, kw_only=False)
    prompt: str | None = sent_as("prompt", default=None, kw_only=False, required=True)
    negative_prompt: str | None = option("negativePrompt")
    steps: float | None = option("steps")
    scale: float | None = option("scale")
    seed: int | str | None = option("seed")
    width: float | None = option("width")
    height: float | None = option("height")
    num_frames: float | None = option("numFrames")
    fps: float | str | None = option("fps")


@checked
class VideoBackgroundMusicGen(CheckedInputs):
    """Inputs of ``wiro/video-background-music-gen``: Video Background Music Gen.

    Args:
        video: Input Video.
        prompt: Prompt.
        tokens: Tokens.
        scale: Guidance Scale.
        bg_music_volume: Bg Music Volume.
    """

    model: ClassVar[str] = "wiro/video-background-music-gen"

    video: File | None = sent_as("inputVideoUrl", default=None, kw_only=False)
    prompt: str | None = sent_as("prompt", default=None, kw_only=False)
    tokens: float | None = option("tokens")
    scale: float | None = option("scale")
    bg_music_volume: float | None = option("bgMusicVolume")


@checked
class VideoBackgroundMusicV2(CheckedInputs):
    """Inputs of ``wiro/video-background-music-v2``: Video Background Music V2.

    Args:
        video: Input Video.
        caption: Caption.
        audio: Reference Audio.
        bpm: Bpm, in beats per minute.
        bg_music_volume: Background Music Volume.
        seed: Seed.
    """

    model: ClassVar[str] = "wiro/video-background-music-v2"

    video: File | None = sent_as("inputVideoUrl", default=None, kw_only=False)
    caption: str | None = option("caption")
    audio: File | None = option("inputAudioUrl")
    bpm: float | None = option("bpm")
    bg_music_volume: float | None = option("bgMusicVolume")
    seed: int | str | None = option("seed")


@checked
class VideoMerge(CheckedInputs):
    """Inputs of ``wiro/video-merge``: Video Merge.

    Args:
        video_multiple: Input Video Multiples: one file, or several.
    """

    model: ClassVar[str] = "wiro/video-merge"

    video_multiple: Files | None = sent_as("inputVideoUrlMultiple", default=None, kw_only=False)


@checked
class Wan22AnimateAnimation(CheckedInputs):
    """Inputs of ``Wan-AI/Wan2.2-Animate-Animation``: Wan2.2 Animate Animation.

    Args:
        image: Input Image: one file, or several.
        video: Video: one file, or several.
        resolution: Resolution (the service's default: 'default').
        steps: Inferencesteps (the service's default: 20).
        scale: Guidancescale.
        shift: Shift.
        seed: Seed (the service's default: '0').
    """

    model: ClassVar[str] = "Wan-AI/Wan2.2-Animate-Animation"

    image: Files = sent_as("inputImage", kw_only=False)
    video: Files = sent_as("inputVideo")
    resolution: Literal["default", "480p", "580p", "720p"] | None = option("resolution")
    steps: Annotated[int, Between(1, 500)] | None = option("steps")
    scale: float | str = sent_as("scale")
    shift: float | str = sent_as("shift")
    seed: int | str | None = option("seed")


@checked
class Wan22AnimateReplace(CheckedInputs):
    """Inputs of ``Wan-AI/Wan2.2-Animate-Replace``: Wan2.2 Animate Replace.

    Args:
        image: Input Image: one file, or several.
        video: Video: one file, or several.
        resolution: Resolution (the service's default: 'default').
        steps: Inferencesteps (the service's default: 20).
        scale: Guidancescale.
        shift: Shift.
        seed: Seed (the service's default: '0').
    """

    model: ClassVar[str] = "Wan-AI/Wan2.2-Animate-Replace"

    image: Files = sent_as("inputImage", kw_only=False)
    video: Files = sent_as("inputVideo")
    resolution: Literal["default", "480p", "580p", "720p"] | None = option("resolution")
    steps: Annotated[int, Between(1, 500)] | None = option("steps")
    scale: float | str = sent_as("scale")
    shift: float | str = sent_as("shift")
    seed: int | str | None = option("seed")


@checked
class Wan22EffectsExtra(CheckedInputs):
    """Inputs of ``wiro/wan2.2-effects-extra``: Wan2.2 Effects Extra.

    Args:
        image: Input Image.
        effect_type: Effect Type.
        seed: Seed.
    """

    model: ClassVar[str] = "wiro/wan2.2-effects-extra"

    image: File | None = sent_as("inputImageUrl", default=None, kw_only=False)
    effect_type: str | None = option("effectType")
    seed: int | str | None = option("seed")


@checked
class WanV26(CheckedInputs):
    """Inputs of ``alibaba/wan 2.6``: Wan 2.6 Video Generation Model.

    Args:
        image: Image: one file, or several.
        prompt: Prompt (the service's default: 'Cinematic documentary style, National G…').
        mode: Mode (the service's default: 'std').
        negative_prompt: Negative Prompt.
        audio: Audio: one file, or several.
        image2: References: one file, or several.
        audio_enabled: Enabled Audio (the service's default: False).
        duration: Duration, in seconds (the service's default: 5).
        resolution: Resolution (the service's default: '1080P').
        ratio: Ratio (the service's default: '16:9').
        shot_type: Shot Type (the service's default: 'single').
        prompt_extend: Prompt Extend (the service's default: False).
        watermark: Watermark (the service's default: False).
        seed: Seed.
    """

    model: ClassVar[str] = "alibaba/wan 2.6"

    image: Files | None = sent_as("inputImage", default=None, kw_only=False)
    prompt: str | None = sent_as("prompt", default=None, kw_only=False)
    mode: Literal["std", "pro"] | None = option("mode")
    negative_prompt: str | None = option("negativePrompt")
    audio: Files | None = option("inputAudio")
    image2: Files | None = option("inputImage2")
    audio_enabled: bool | None = option("audioEnabled")
    duration: Annotated[int, Between(3, 15)] | None = option("duration")
    resolution: Literal["720P", "1080P"] | None = option("resolution")
    ratio: Literal["16:9", "9:16", "1:1", "4:3", "3:4"] | None = option("ratio")
    shot_type: Literal["single", "multi"] | None = option("shotType")
    prompt_extend: bool | None = option("promptExtend")
    watermark: bool | None = option("watermark")
    seed: Annotated[int, Between(0, 21474836)] | None = option("seed")


Wiro3DTextAnimationsEffectType: TypeAlias = Literal[
    "titles-silver-balloons-paris",
    "titles-bubblegum-letters",
    "titles-rainy-city-street",
    "titles-inflatable-letters-pool",
    "titles-shop-window-neon",
    "titles-glossy-helium-balloons",
    "titles-golden-balloons-confetti",
    "titles-gift-box",
    "titles-island-shaped-text",
    "titles-enveloppe-blooming-flowers",
    "titles-colorful-toy-blocks",
    "titles-hanging-tags",
    "titles-watermelon-splash",
    "titles-cooking-ingredients-rustic-table",
    "titles-inflated-pastel-letters-confetti",
    "titles-birthday-cake",
    "titles-gold-script",
    "titles-pink-fur-flowered-field",
    "titles-candy-land",
    "titles-rock-letters-beach-waves",
    "titles-dreamy-clouds-gradient-sky",
    "titles-red-neon-street-night",
]


@checked
class Wiro3DTextAnimations(CheckedInputs):
    """Inputs of ``wiro/3D Text Animations``: 3D Text Animations.

    Args:
        caption: Caption (the service's default: 'New Arrival').
        video_mode: Video Mode (the service's default: 'std').
        ratio: Ratio (the service's default: '9:16').
        effect_type: Effect Type (the service's default: 'titles-bubblegum-letters').
    """

    model: ClassVar[str] = "wiro/3D Text Animations"

    caption: str | None = option("caption")
    video_mode: Literal["std", "pro"] | None = option("videoMode")
    ratio: Literal["16:9", "9:16", "1:1"] | None = option("ratio")
    effect_type: Wiro3DTextAnimationsEffectType | None = option("effectType")
