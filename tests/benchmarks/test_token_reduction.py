"""The benchmark of fewer tokens, with an answerer that knows what is right and forgets it below a half."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import bench_token_reduction as bench
from PIL import Image


class Forgetful:
    name = "forgetful"
    stream = chat = None

    def __init__(self, items: list[Any]) -> None:
        self._expected = {item.question.text: item.question.expected for item in items}
        self.budgets: list[tuple[float, str]] = []

    def ask(self, media: Any, question: str, **options: Any) -> SimpleNamespace:
        fraction, method = options["visual_token_budget"], options["token_reduction"]
        self.budgets.append((fraction, method))
        return SimpleNamespace(
            text=self._expected[question] if fraction >= 0.5 else "It is hard to say.",
            finish_reason="stop",
            media=(),
            usage=SimpleNamespace(visual_tokens=int(128 * fraction)),
            timings_s={},
        )


def test_every_fraction_is_asked_by_both_methods_and_drawn(tmp_path: Path) -> None:
    items = bench.first_in_turn(2)
    answerer = Forgetful(items)
    found = bench.measure(answerer, items)
    assert all(item.scene.is_clip for item in items)
    assert [(each.method, each.fraction) for each in found] == [(m, x) for m in bench.METHODS for x in bench.FRACTIONS]
    assert [each.accuracy.hits for each in found] == [2, 2, 2, 0, 0] * 2
    assert [each.visual_tokens for each in found] == [128, 96, 64, 32, 12] * 2
    assert answerer.budgets.count((1.0, "evs")) == 2
    assert (1.0, "fastvid") not in answerer.budgets
    table = bench.section_of(found, "forgetful", is_whole=True).as_markdown()
    assert "| fastvid | 25% | 32 | 0.0 % (0 of 2) | 0.0 % to 65.8 % |" in table
    bench.draw(found, tmp_path / "plot.png")
    with Image.open(tmp_path / "plot.png") as image:
        assert image.size == (900, 600)
