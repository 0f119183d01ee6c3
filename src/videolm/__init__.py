"""Ask questions about videos and pictures with open video language models.

    >>> import videolm
    >>> session = videolm.load()
    >>> print(session.ask("clip.mp4", "What is moving?").text)

Names are imported when they are first used, so that ``import videolm`` itself is instant.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from videolm.contracts import Answer, Answerer, AnswerStream, Frames, MediaReport, ModelInputs, Usage, VisualInput
    from videolm.conversation import Conversation
    from videolm.engine.async_engine import AsyncEngine
    from videolm.engine.config import EngineConfig
    from videolm.engine.engine import Engine
    from videolm.engine.request import Request, RequestOutput
    from videolm.engine.vision_cache import VisionCacheConfig
    from videolm.errors import (
        ArgumentError,
        CapacityError,
        CheckpointError,
        ConfigError,
        DeviceError,
        EngineError,
        FetchError,
        GenerationError,
        MediaError,
        MediaLimitError,
        MediaNotFoundError,
        MissingExtraError,
        ModelNotFoundError,
        NotOfferedError,
        PlaceholderMismatchError,
        ProcessingError,
        SampleBudgetError,
        TrainingError,
        VideoLMError,
    )
    from videolm.families.auto_classes import (
        AutoConfig,
        AutoImageProcessor,
        AutoModelForImageTextToText,
        AutoProcessor,
        AutoTokenizer,
    )
    from videolm.families.bitsandbytes_config import BitsAndBytesConfig
    from videolm.families.generation_config import GenerationConfig
    from videolm.families.llava_next import LlavaNextConfig, LlavaNextForConditionalGeneration
    from videolm.families.llava_next_video import (
        LlavaNextVideoCausalLMOutputWithPast,
        LlavaNextVideoConfig,
        LlavaNextVideoForConditionalGeneration,
        LlavaNextVideoModel,
    )
    from videolm.families.llava_next_video2 import LlavaNextVideo2Config, LlavaNextVideo2ForConditionalGeneration
    from videolm.families.part_configs import (
        CLIPVisionConfig,
        LlamaConfig,
        MistralConfig,
        Qwen2Config,
        SiglipVisionConfig,
    )
    from videolm.families.processor_classes import (
        LlavaNextImageProcessor,
        LlavaNextProcessor,
        LlavaNextVideo2Processor,
        LlavaNextVideoImageProcessor,
        LlavaNextVideoProcessor,
        LlavaNextVideoVideoProcessor,
        VideoLlavaImageProcessor,
        VideoLlavaProcessor,
        VideoLlavaVideoProcessor,
    )
    from videolm.families.video_llava import (
        VideoLlavaCausalLMOutputWithPast,
        VideoLlavaConfig,
        VideoLlavaForConditionalGeneration,
        VideoLlavaModel,
        VideoLlavaModelOutputWithPast,
    )
    from videolm.generation.logprobs import TokenLogprobs
    from videolm.generation.params import SamplingParams
    from videolm.media.limits import MediaLimits
    from videolm.media.load import load_media
    from videolm.media.sampling import FrameSampling
    from videolm.processing.processor import Processor
    from videolm.session import Session, load
    from videolm.weights.quantize import WeightQuantization

_MODULES = {
    "videolm.contracts": (
        "Answer",
        "AnswerStream",
        "Answerer",
        "Frames",
        "MediaReport",
        "ModelInputs",
        "Usage",
        "VisualInput",
    ),
    "videolm.conversation": ("Conversation",),
    "videolm.engine.async_engine": ("AsyncEngine",),
    "videolm.engine.config": ("EngineConfig",),
    "videolm.engine.engine": ("Engine",),
    "videolm.engine.request": ("Request", "RequestOutput"),
    "videolm.engine.vision_cache": ("VisionCacheConfig",),
    "videolm.errors": (
        "ArgumentError",
        "CapacityError",
        "CheckpointError",
        "ConfigError",
        "DeviceError",
        "EngineError",
        "FetchError",
        "GenerationError",
        "MediaError",
        "MediaLimitError",
        "MediaNotFoundError",
        "MissingExtraError",
        "ModelNotFoundError",
        "NotOfferedError",
        "PlaceholderMismatchError",
        "ProcessingError",
        "SampleBudgetError",
        "TrainingError",
        "VideoLMError",
    ),
    "videolm.families.auto_classes": (
        "AutoConfig",
        "AutoImageProcessor",
        "AutoModelForImageTextToText",
        "AutoProcessor",
        "AutoTokenizer",
    ),
    "videolm.families.bitsandbytes_config": ("BitsAndBytesConfig",),
    "videolm.families.generation_config": ("GenerationConfig",),
    "videolm.families.llava_next": ("LlavaNextConfig", "LlavaNextForConditionalGeneration"),
    "videolm.families.llava_next_video": (
        "LlavaNextVideoCausalLMOutputWithPast",
        "LlavaNextVideoConfig",
        "LlavaNextVideoForConditionalGeneration",
        "LlavaNextVideoModel",
    ),
    "videolm.families.llava_next_video2": ("LlavaNextVideo2Config", "LlavaNextVideo2ForConditionalGeneration"),
    "videolm.families.video_llava": (
        "VideoLlavaCausalLMOutputWithPast",
        "VideoLlavaConfig",
        "VideoLlavaForConditionalGeneration",
        "VideoLlavaModel",
        "VideoLlavaModelOutputWithPast",
    ),
    "videolm.families.part_configs": (
        "CLIPVisionConfig",
        "LlamaConfig",
        "MistralConfig",
        "Qwen2Config",
        "SiglipVisionConfig",
    ),
    "videolm.families.processor_classes": (
        "LlavaNextImageProcessor",
        "LlavaNextProcessor",
        "LlavaNextVideo2Processor",
        "LlavaNextVideoImageProcessor",
        "LlavaNextVideoProcessor",
        "LlavaNextVideoVideoProcessor",
        "VideoLlavaImageProcessor",
        "VideoLlavaProcessor",
        "VideoLlavaVideoProcessor",
    ),
    "videolm.generation.logprobs": ("TokenLogprobs",),
    "videolm.generation.params": ("SamplingParams",),
    "videolm.media.limits": ("MediaLimits",),
    "videolm.media.load": ("load_media",),
    "videolm.media.sampling": ("FrameSampling",),
    "videolm.processing.processor": ("Processor",),
    "videolm.session": ("Session", "load"),
    "videolm.weights.quantize": ("WeightQuantization",),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "Answer",
    "AnswerStream",
    "Answerer",
    "ArgumentError",
    "AsyncEngine",
    "AutoConfig",
    "AutoImageProcessor",
    "AutoModelForImageTextToText",
    "AutoProcessor",
    "AutoTokenizer",
    "BitsAndBytesConfig",
    "CLIPVisionConfig",
    "CapacityError",
    "CheckpointError",
    "ConfigError",
    "Conversation",
    "DeviceError",
    "Engine",
    "EngineConfig",
    "EngineError",
    "FetchError",
    "FrameSampling",
    "Frames",
    "GenerationConfig",
    "GenerationError",
    "LlamaConfig",
    "LlavaNextConfig",
    "LlavaNextForConditionalGeneration",
    "LlavaNextImageProcessor",
    "LlavaNextProcessor",
    "LlavaNextVideo2Config",
    "LlavaNextVideo2ForConditionalGeneration",
    "LlavaNextVideo2Processor",
    "LlavaNextVideoCausalLMOutputWithPast",
    "LlavaNextVideoConfig",
    "LlavaNextVideoForConditionalGeneration",
    "LlavaNextVideoImageProcessor",
    "LlavaNextVideoModel",
    "LlavaNextVideoProcessor",
    "LlavaNextVideoVideoProcessor",
    "MediaError",
    "MediaLimitError",
    "MediaLimits",
    "MediaNotFoundError",
    "MediaReport",
    "MissingExtraError",
    "MistralConfig",
    "ModelInputs",
    "ModelNotFoundError",
    "NotOfferedError",
    "PlaceholderMismatchError",
    "ProcessingError",
    "Processor",
    "Qwen2Config",
    "Request",
    "RequestOutput",
    "SampleBudgetError",
    "SamplingParams",
    "Session",
    "SiglipVisionConfig",
    "TokenLogprobs",
    "TrainingError",
    "Usage",
    "VideoLMError",
    "VideoLlavaCausalLMOutputWithPast",
    "VideoLlavaConfig",
    "VideoLlavaForConditionalGeneration",
    "VideoLlavaImageProcessor",
    "VideoLlavaModel",
    "VideoLlavaModelOutputWithPast",
    "VideoLlavaProcessor",
    "VideoLlavaVideoProcessor",
    "VisionCacheConfig",
    "VisualInput",
    "WeightQuantization",
    "load",
    "load_media",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return importlib.import_module("importlib.metadata").version("videolm")
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'videolm' has no attribute {name!r}")
    value = getattr(importlib.import_module(_MODULE_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, "__version__"})
