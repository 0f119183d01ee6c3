"""Names in messages: one line, not endless, without secrets."""

from urllib.parse import urlsplit

from videolm.media.wording import printable, url_name


def test_control_characters_and_half_characters_are_replaced() -> None:
    assert printable("a\nb\x1b[31m\udcff é") == "a\ufffdb\ufffd[31m\ufffd é"


def test_long_names_keep_both_ends() -> None:
    assert printable("a" * 300 + "b" * 300) == "a" * 100 + "…" + "b" * 100


def test_a_url_is_shown_without_user_query_and_fragment() -> None:
    assert url_name(urlsplit("https://me:pw@host:8/a/b.mp4?key=1#part")) == "https://host:8/a/b.mp4"
