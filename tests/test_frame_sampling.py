"""Which frames stand for a clip: worked out by hand, and what the draws of training promise."""

from fractions import Fraction

import pytest
import torch

from processing_fpig.frame_sampling_fpig import sample_frame_indices


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(
    ("num_available", "num_frames", "expected"),
    [
        (10, 4, [0, 3, 6, 9]),
        (11, 4, [0, 3, 6, 10]),  # 10/3 = 3.33 and 6.67: floors, nothing is rounded up
        (100, 12, [0, 9, 18, 27, 36, 45, 54, 63, 72, 81, 90, 99]),
        (101, 12, [0, 9, 18, 27, 36, 45, 54, 63, 72, 81, 90, 100]),
        (12, 12, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]),
        (13, 12, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12]),
        (5, 12, [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 4]),
        (2, 12, [0] * 11 + [1]),
        (1, 12, [0] * 12),
        (1, 1, [0]),
        (7, 1, [0]),
        (7, 2, [0, 6]),
        (8, 3, [0, 3, 7]),
    ],
)
def test_test_mode_by_hand(num_available, num_frames, expected):
    assert sample_frame_indices(num_available, num_frames) == expected


def test_test_mode_is_the_exact_floor():
    """In fractions, so that no float decides: the k-th of T is floor(k · (n − 1) / (T − 1))."""
    for num_available in range(1, 400):
        for num_frames in (2, 3, 8, 12, 32):
            exact = [int(Fraction(k * (num_available - 1), num_frames - 1)) for k in range(num_frames)]
            assert sample_frame_indices(num_available, num_frames) == exact


def test_train_mode_draws_both_ends():
    """n = 50, T = 6: g = 10, the start is any of 0 … 10 and the end any of 39 … 49, each as likely."""
    generator = seeded(0)
    draws = [sample_frame_indices(50, 6, "train", generator) for _ in range(4000)]
    starts = torch.bincount(torch.tensor([draw[0] for draw in draws]), minlength=50)
    ends = torch.bincount(torch.tensor([draw[-1] for draw in draws]), minlength=50)
    assert starts.nonzero().flatten().tolist() == list(range(11))
    assert ends.nonzero().flatten().tolist() == list(range(39, 50))
    for counts in (starts[:11], ends[39:]):
        assert counts.min() > 4000 / 11 * 0.75
        assert counts.max() < 4000 / 11 * 1.25
    pairs = torch.tensor([[draw[0], draw[-1]] for draw in draws]).double()
    assert torch.corrcoef(pairs.T)[0, 1].abs() < 0.06, "start and end are drawn apart"


def test_train_mode_spreads_evenly_between_its_ends():
    generator = seeded(1)
    for _ in range(50):
        indices = sample_frame_indices(60, 7, "train", generator)
        step = Fraction(indices[-1] - indices[0], 6)
        assert indices == [int(indices[0] + k * step) for k in range(7)]


def test_train_mode_draws_the_start_first():
    """By hand with torch's own draws: n = 40, T = 5, g = 10."""
    expected = seeded(3)
    start = int(torch.randint(0, 11, (), generator=expected))
    end = int(torch.randint(29, 40, (), generator=expected))
    indices = sample_frame_indices(40, 5, "train", seeded(3))
    assert (indices[0], indices[-1]) == (start, end)


def test_train_mode_repeats_with_its_generator_alone():
    torch.manual_seed(5)
    first = [sample_frame_indices(90, 12, "train", seeded(7)) for _ in range(2)]
    torch.manual_seed(6)
    assert first == [sample_frame_indices(90, 12, "train", seeded(7))] * 2
    generator = seeded(7)
    later = [sample_frame_indices(90, 12, "train", generator) for _ in range(5)]
    assert later[0] == first[0]
    assert any(indices != first[0] for indices in later)
    state = torch.get_rng_state()
    sample_frame_indices(90, 12, "train", generator)
    assert torch.equal(state, torch.get_rng_state()), "the global generator is left alone"


def test_test_mode_draws_nothing():
    generator = seeded(0)
    state = generator.get_state()
    assert sample_frame_indices(30, 4, "test", generator) == [0, 9, 19, 29]
    assert torch.equal(state, generator.get_state())


@pytest.mark.parametrize("num_available", [1, 2, 3, 4, 5, 11, 12, 13])
@pytest.mark.parametrize("num_frames", [1, 2, 3, 4, 12])
def test_train_mode_stays_in_the_clip(num_available, num_frames):
    generator = seeded(0)
    for _ in range(30):
        indices = sample_frame_indices(num_available, num_frames, "train", generator)
        assert len(indices) == num_frames
        assert all(type(index) is int and 0 <= index < num_available for index in indices)
        assert indices == sorted(indices), "frames stay in the order of time"


def test_train_mode_of_one_frame_takes_any():
    generator = seeded(0)
    assert {sample_frame_indices(4, 1, "train", generator)[0] for _ in range(100)} == {0, 1, 2, 3}


def test_train_mode_needs_a_generator():
    with pytest.raises(ValueError, match=r"`generator` is None.*pass a `torch.Generator`"):
        sample_frame_indices(10, 4, "train")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 4), "`num_available` is 0; it must be at least 1"),
        ((4, 0), "`num_frames` is 0; it must be at least 1"),
        ((4, -2), "`num_frames` is -2"),
        ((4, 4, "eval"), "`mode` is 'eval'; it must be one of test, train"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        sample_frame_indices(*arguments)
