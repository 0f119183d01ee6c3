"""The packet index: display order from time stamps, and the runs of packets that reach wanted frames."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from videolm.media.packet_index import DecodeRun, PacketIndex, plan_runs


def make_index(pts: list[int | None], keys: set[int], hidden: frozenset[int] = frozenset()) -> PacketIndex:
    return PacketIndex(
        pts=pts,
        is_key=[position in keys for position in range(len(pts))],
        is_shown=[position not in hidden for position in range(len(pts))],
        position_of={value: position for position, value in enumerate(pts)},
    )


# The drawing in the module's docstring.
DRAWN = make_index([0, 3, 1, 2, 6, 4, 5, 7], keys={0, 4})


def test_display_order_sorts_by_presentation_time() -> None:
    assert DRAWN.display_order() == [0, 2, 3, 1, 5, 6, 4, 7]


def test_packets_that_are_not_shown_are_not_counted() -> None:
    assert make_index([0, 3, 1, 2], keys={0}, hidden=frozenset({0, 2})).display_order() == [3, 1]


def test_time_stamps_that_cannot_tell_the_order() -> None:
    assert make_index([], keys=set()).display_order() is None
    assert make_index([0, None, 2], keys={0}).display_order() is None
    assert make_index([0, 1, 1], keys={0}).display_order() is None
    assert make_index([0, 1, 2], keys={1}).display_order() is None  # Starts inside a group.
    assert make_index([2, 0, 1, 3], keys={0}).display_order() is None  # Leading pictures of a group that is cut off.
    assert make_index([*range(1000, 1100), *range(100)], keys={0}).display_order() is None  # Two recordings.


def test_a_frame_is_reached_from_the_key_packet_before_it() -> None:
    assert plan_runs(DRAWN, [7]) == [DecodeRun(start=4, stop=8, wanted=(7,))]


def test_a_leading_picture_is_reached_from_one_key_packet_further_back() -> None:
    assert plan_runs(DRAWN, [5]) == [DecodeRun(start=0, stop=6, wanted=(5,))]


def test_a_run_that_goes_back_takes_in_the_runs_it_meets() -> None:
    assert plan_runs(DRAWN, [1, 4, 5]) == [DecodeRun(start=0, stop=6, wanted=(1, 4, 5))]


def test_groups_apart_are_separate_runs() -> None:
    index = make_index(list(range(30)), keys={0, 10, 20})

    assert plan_runs(index, [2, 3, 25]) == [
        DecodeRun(start=0, stop=4, wanted=(2, 3)),
        DecodeRun(start=20, stop=26, wanted=(25,)),
    ]


@given(st.data())
def test_runs_cover_every_wanted_packet_once_and_never_overlap(data: st.DataObject) -> None:
    num_packets = data.draw(st.integers(1, 60))
    pts = data.draw(st.permutations(range(num_packets)))
    keys = {0, *data.draw(st.sets(st.integers(0, num_packets - 1)))}
    wanted = data.draw(st.sets(st.integers(0, num_packets - 1), min_size=1))

    runs = plan_runs(make_index(list(pts), keys), wanted)

    assert [position for run in runs for position in run.wanted] == sorted(wanted)
    assert all(run.start in keys and run.start <= run.wanted[0] for run in runs)
    assert all(run.stop == run.wanted[-1] + 1 for run in runs)
    assert all(before.stop < after.start for before, after in pairwise(runs))
