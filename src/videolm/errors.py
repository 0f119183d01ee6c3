"""Every exception that videolm raises for a user's mistake or for bad input.

    VideoLMError
    ├── ArgumentError (ValueError)            an option or argument has an impossible value
    ├── ConfigError (ValueError)              a configuration file or key is wrong
    ├── MediaError (ValueError)               a video or picture cannot be read
    │   ├── MediaNotFoundError (FileNotFoundError)
    │   ├── MediaLimitError                   larger, longer or slower than a limit allows
    │   └── FetchError (OSError)              a URL was refused or did not answer
    ├── ProcessingError (ValueError)          messages and media do not fit together
    │   └── PlaceholderMismatchError          processor and model disagree about the number of visual tokens
    ├── CheckpointError (ValueError)          weights are missing, unexpected or unreadable
    │   └── ModelNotFoundError (FileNotFoundError)
    ├── DeviceError (ValueError)              a device or dtype that this machine does not have
    ├── GenerationError (RuntimeError)        the model's output is not usable
    ├── EngineError (RuntimeError)            the engine could not answer a request
    │   └── CapacityError                     a request needs more than the engine's cache can ever hold
    ├── NotOfferedError (AttributeError)      a method that other libraries' classes have and ours do not
    ├── TrainingError (RuntimeError)          training cannot go on
    │   └── SampleBudgetError                 too many training samples could not be read
    └── MissingExtraError (ImportError)       an optional dependency is not installed

A message is one line in three parts: what happened, with the values; what was expected; what to do.
"""

from __future__ import annotations

__all__ = [
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
]


class VideoLMError(Exception):
    """Base of everything that the command line turns into one line and exit status 1."""


class ArgumentError(VideoLMError, ValueError):
    """An option or argument has an impossible value."""


class ConfigError(VideoLMError, ValueError):
    """A configuration file or key is wrong."""


class MediaError(VideoLMError, ValueError):
    """A video or picture cannot be read."""

    def __init__(self, message: str, *, limit: str | None = None) -> None:
        """``limit`` is the field of ``MediaLimits`` that refused it, where one did; the message names it."""
        super().__init__(message)
        self.limit = limit


class MediaNotFoundError(MediaError, FileNotFoundError):
    """The named file or folder does not exist, or holds nothing to read."""


class MediaLimitError(MediaError):
    """A medium is larger, longer or slower than a limit allows."""


class FetchError(MediaError, OSError):
    """A URL was refused or did not answer."""


class ProcessingError(VideoLMError, ValueError):
    """Messages and media do not fit together."""


class PlaceholderMismatchError(ProcessingError):
    """Processor and model disagree about the number of visual tokens."""


class CheckpointError(VideoLMError, ValueError):
    """Weights or their description are missing, unexpected or unreadable."""


class ModelNotFoundError(CheckpointError, FileNotFoundError):
    """No model stands at the given path or name."""


class DeviceError(VideoLMError, ValueError):
    """A device or dtype that this machine does not have."""


class GenerationError(VideoLMError, RuntimeError):
    """The model's output is not usable, such as logits that are not numbers."""


class EngineError(VideoLMError, RuntimeError):
    """The engine could not answer a request, such as after a fault in a step that it was part of."""


class CapacityError(EngineError):
    """A request needs more than the engine's cache can ever hold."""


class NotOfferedError(VideoLMError, AttributeError):
    """A method that other libraries' classes have and ours do not; to ``hasattr`` it is not there."""


class TrainingError(VideoLMError, RuntimeError):
    """Training cannot go on."""


class SampleBudgetError(TrainingError):
    """More training samples could not be read than the configuration allows."""


class MissingExtraError(VideoLMError, ImportError):
    """An optional dependency is not installed; the message names the extra."""
