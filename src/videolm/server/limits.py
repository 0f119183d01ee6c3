"""What a medium of a request may cost, and a refusal in the words of whoever runs the server: it names the flag."""

from __future__ import annotations

from dataclasses import replace

from videolm.errors import VideoLMError
from videolm.media.limits import MediaLimits
from videolm.server.settings import ServerSettings

FLAGS = {
    "max_bytes": "--max-media-bytes",
    "timeout_s": "--download-timeout",
    "max_redirects": "--max-redirects",
    "allow_private_hosts": "--allow-private-hosts",
    "max_pixels": "--max-pixels",
    "max_duration_s": "--max-duration",
    "max_packets": "--max-packets",
    "max_decode_s": "--decode-timeout",
    "max_frames": "--max-frames",
}
"""Fields of ``MediaLimits`` and what sets them."""
PRIVATE_HOST = (
    "The medium's host is at no public address: expected one on the public internet. Upload the medium to /v1/files, "
    "or start the server with --allow-private-hosts if it may fetch from its own network."
)
"""Without the address: what names mean inside of a network is not for those outside."""
ADVICE = {
    'Pass kind="video" or "auto".': "Send it as a video_url.",
    "Download it by other means and pass its path": "Upload it to /v1/files",
    "Save it to a file and pass its path": "Upload it to /v1/files",
}
"""What to do in Python, and the same over the network."""

__all__ = ["FLAGS", "media_limits", "server_words"]


def media_limits(settings: ServerSettings) -> MediaLimits:
    """The limits on one medium."""
    return replace(
        settings.media,
        allow_private_hosts=settings.allow_private_hosts,
        max_decode_s=min(settings.media.max_decode_s, settings.decode_timeout_s),
    )


def server_words(error: VideoLMError) -> str:
    """An error's message in one line, with flags of the server where it names arguments."""
    message = " ".join(str(error).split())
    limit: str | None = getattr(error, "limit", None)
    if limit == "allow_private_hosts":
        return PRIVATE_HOST
    for ours, theirs in ADVICE.items():
        message = message.replace(ours, theirs)
    if limit is not None:
        flag = FLAGS[limit]
        message = message.replace(f"raise {limit}", f"start the server with a higher {flag}").replace(limit, flag)
    return message
