"""Every kind of video goes in, and the pixel values are those of CLIP's own image processor."""

import io
import math

import numpy as np
import pytest
import torch
from make_clips import make_clip, paint_frames, read_numbers

from processing_fpig import FPigVideoProcessor, VideoReadError
from processing_fpig.frame_sampling_fpig import sample_frame_indices
from processing_fpig.video_processing_fpig import CLIP_MEAN, CLIP_STD, resize_frame


def to_pixels(pixel_values: torch.Tensor) -> np.ndarray:
    """Pixel values [T, 3, S, S] back to integers [T, S, S, 3]."""
    pixels = pixel_values * torch.tensor(CLIP_STD).view(3, 1, 1) + torch.tensor(CLIP_MEAN).view(3, 1, 1)
    return (pixels * 255).permute(0, 2, 3, 1).numpy()


def make_pictures(num_frames: int, height: int, width: int, seed: int = 0) -> np.ndarray:
    """Noise over slopes: sharp edges and smooth places, [T, H, W, 3] uint8."""
    generator = np.random.default_rng(seed)
    rows, columns = np.mgrid[:height, :width]
    slopes = np.stack([rows * 255 / height, columns * 255 / width, (rows + columns) % 256], axis=-1)
    noise = generator.integers(-60, 60, (num_frames, height, width, 3))
    noise[:, : height // 2] *= generator.integers(0, 3, (num_frames, 1, 1, 1))
    return np.clip(slopes + noise, 0, 255).astype(np.uint8)


@pytest.fixture
def small_processor():
    return FPigVideoProcessor(num_frames=3, size=32)


# --- what a video may be ---


def test_every_form_of_decoded_frames_is_the_same(small_processor):
    frames = make_pictures(7, 40, 50)
    expected = small_processor(frames)["pixel_values"]
    assert expected.shape == (1, 3, 3, 32, 32)
    assert expected.dtype == torch.float32
    read_only = np.frombuffer(frames.tobytes(), np.uint8).reshape(frames.shape)
    forms = {
        "tensor": torch.from_numpy(frames).permute(0, 3, 1, 2),
        "list of arrays": list(frames),
        "tuple of arrays": tuple(frames),
        "list of tensors": list(torch.from_numpy(frames).permute(0, 3, 1, 2)),
        "reversed twice": np.ascontiguousarray(frames[..., ::-1])[..., ::-1],
        "in Fortran's order": np.asfortranarray(frames),
        "read only": read_only,
        "list of one": [frames],
    }
    for form, video in forms.items():
        assert torch.equal(small_processor(video)["pixel_values"], expected), form


def test_pil_images(small_processor):
    image_module = pytest.importorskip("PIL.Image")
    frames = make_pictures(7, 40, 50)
    images = [image_module.fromarray(frame) for frame in frames]
    expected = small_processor(frames)["pixel_values"]
    assert torch.equal(small_processor(images)["pixel_values"], expected)
    assert torch.equal(small_processor([images, images])["pixel_values"], expected.expand(2, -1, -1, -1, -1))
    grey = [image.convert("L") for image in images]
    as_colours = np.stack([np.asarray(image.convert("RGB")) for image in grey])
    assert torch.equal(small_processor(grey)["pixel_values"], small_processor(as_colours)["pixel_values"])
    transparent = [image.copy() for image in images]
    for image in transparent:
        image.putalpha(100)
    assert torch.equal(small_processor(transparent)["pixel_values"], expected)


def test_every_form_of_encoded_video_is_the_same(small_processor, tmp_path):
    clip = make_clip("mp4_short_groups")
    path = tmp_path / "clip.mp4"
    path.write_bytes(clip)
    expected = small_processor(str(path))["pixel_values"]
    file = io.BytesIO(clip)
    file.seek(100)  # wherever it stands, it is read from its start
    forms = {
        "path": path,
        "bytes": clip,
        "bytearray": bytearray(clip),
        "memoryview": memoryview(clip),
        "file in memory": file,
        "file object": path.open("rb"),
        "unbuffered file": path.open("rb", buffering=0),
        "bytes of datasets": {"bytes": clip, "path": None},
        "path of datasets": {"bytes": None, "path": str(path)},
        "both of datasets": {"bytes": clip, "path": "elsewhere.mp4"},
        "list of one": [path],
    }
    for form, video in forms.items():
        assert torch.equal(small_processor(video)["pixel_values"], expected), form
    assert not file.closed, "a file object stays its owner's"
    assert torch.equal(small_processor(file)["pixel_values"], expected), "and can be read again"


def test_batch_is_its_videos_in_order(small_processor, tmp_path):
    (tmp_path / "clip.mp4").write_bytes(make_clip("mp4_one_group_b_frames"))
    frames = make_pictures(5, 40, 50)
    batch = [
        tmp_path / "clip.mp4",
        make_clip("webm_vp9"),
        frames,
        torch.from_numpy(frames).permute(0, 3, 1, 2),
        list(frames),
        {"bytes": make_clip("gif"), "path": "a.gif"},
    ]
    together = small_processor(batch)["pixel_values"]
    assert together.shape == (6, 3, 3, 32, 32)
    for row, video in enumerate(batch):
        assert torch.equal(together[row], small_processor(video)["pixel_values"][0])
    assert torch.equal(small_processor(tuple(batch))["pixel_values"], together)


@pytest.mark.parametrize(
    ("video", "message"),
    [
        (np.zeros((3, 8, 8, 3), np.float32), "`<ndarray>`: its type is float32, not uint8 in 0 … 255"),
        (np.zeros((3, 8, 8, 3), np.int64), "its type is int64, not uint8"),
        (torch.zeros(3, 3, 8, 8), "`<Tensor>`: its type is torch.float32, not uint8"),
        (np.zeros((3, 3, 8, 8), np.uint8), r"its shape is \(3, 3, 8, 8\), not \[T, H, W, 3\]"),
        (np.zeros((3, 8, 8), np.uint8), r"its shape is \(3, 8, 8\), not \[T, H, W, 3\]"),
        (np.zeros((3, 8, 8, 4), np.uint8), r"its shape is \(3, 8, 8, 4\), not"),
        (np.zeros((2, 3, 8, 8, 3), np.uint8), r"its shape is \(2, 3, 8, 8, 3\), not"),
        (np.zeros((0, 8, 8, 3), np.uint8), r"its shape is \(0, 8, 8, 3\), not"),
        (np.zeros((3, 0, 8, 3), np.uint8), r"its shape is \(3, 0, 8, 3\), not"),
        (torch.zeros(3, 8, 8, 3, dtype=torch.uint8), r"shape is \(3, 8, 8, 3\), not \[T, 3, H, W\]"),
        (torch.zeros(0, 3, 8, 8, dtype=torch.uint8), r"shape is \(0, 3, 8, 8\), not \[T, 3, H, W\]"),
        ([[]], "`<list>`: it has no frames"),
        ([np.zeros((8, 8, 3), np.uint8), np.zeros((9, 8, 3), np.uint8)], "its frames differ in shape"),
        ([np.zeros((8, 8, 3), np.float64)] * 3, "its type is float64, not uint8"),
        ([np.zeros((8, 8, 1), np.uint8)] * 3, r"its shape is \(3, 8, 8, 1\), not"),
    ],
)
def test_frames_of_another_shape_or_type_are_named(small_processor, video, message):
    with pytest.raises(VideoReadError, match=message):
        small_processor(video)


@pytest.mark.parametrize(
    ("video", "message"),
    [
        (5, "`videos` holds a int; a video is a path, bytes"),
        (None, "`videos` holds a NoneType"),
        ({"bytes": None, "path": None}, "`videos` holds a NoneType"),
        ([["a.mp4"]], "`videos` holds a frame of type str"),
        (io.StringIO("text"), "`videos` holds a file opened for text"),
    ],
)
def test_things_that_are_no_video_are_named(small_processor, video, message):
    with pytest.raises(TypeError, match=message):
        small_processor(video)


def test_stream_that_can_not_be_rewound_is_refused(small_processor):
    class Stream(io.RawIOBase):
        def readable(self):
            return True

        def seekable(self):
            return False

    with pytest.raises(VideoReadError, match=r"it can't be rewound|can't be rewound; pass `file.read\(\)`"):
        small_processor(Stream())


# --- sampling ---


def test_frames_are_sampled_as_asked():
    clip = make_clip("mkv_h264")
    processor = FPigVideoProcessor(num_frames=4, size=64, resize_mode="squash")

    def numbers(**settings):
        return read_numbers(to_pixels(processor(clip, **settings)["pixel_values"][0]))

    assert numbers() == [0, 9, 19, 29]
    assert numbers(num_frames=2) == [0, 29]
    assert numbers(num_frames=7) == [0, 4, 9, 14, 19, 24, 29]
    drawn = numbers(mode="train", generator=torch.Generator().manual_seed(4))
    assert drawn == numbers(mode="train", generator=torch.Generator().manual_seed(4))
    generator = torch.Generator().manual_seed(4)
    start, end = int(torch.randint(0, 11, (), generator=generator)), None
    end = int(torch.randint(19, 30, (), generator=generator))
    assert (drawn[0], drawn[-1]) == (start, end)
    assert len({tuple(numbers(mode="train", generator=generator)) for _ in range(5)}) > 1


def test_short_clip_repeats_frames():
    processor = FPigVideoProcessor(num_frames=5, size=64, resize_mode="squash")
    pixels = to_pixels(processor(paint_frames(2))["pixel_values"][0])
    assert read_numbers(pixels) == [0, 0, 0, 0, 1]
    assert read_numbers(to_pixels(processor(make_clip("gif_one_frame"))["pixel_values"][0])) == [0] * 5


def test_train_mode_needs_a_generator(small_processor):
    with pytest.raises(ValueError, match="`generator` is None"):
        small_processor(make_clip("mp4_short_groups"), mode="train")


# --- pixel values ---

SIZES = [
    (224, 224),
    (240, 320),
    (321, 181),
    (181, 321),
    (225, 227),
    (227, 224),
    (231, 233),
    (100, 57),
    (540, 960),
]


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_crop_is_clips(height, width):
    """transformers' own processor of CLIP, in its Pillow form, picture by picture."""
    pytest.importorskip("PIL")
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    frames = make_pictures(2, height, width)
    reference = CLIPImageProcessorPil()(list(frames), return_tensors="pt")["pixel_values"]
    pixel_values = FPigVideoProcessor(num_frames=2)(frames)["pixel_values"][0]
    assert pixel_values.shape == reference.shape == (2, 3, 224, 224)
    difference = np.abs(to_pixels(pixel_values) - to_pixels(reference))
    assert difference.max() < 2.01, "a rounding in each direction"
    assert difference.mean() < 0.01


def cubic(distance: np.ndarray) -> np.ndarray:
    """Keys' kernel with a = −1/2."""
    x = np.abs(distance)
    near = 1.5 * x**3 - 2.5 * x**2 + 1
    far = -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return np.where(x < 1, near, np.where(x < 2, far, 0))


def make_resize_matrix(num_in: int, num_out: int) -> np.ndarray:
    """Weights [num_out, num_in]: the kernel is widened by the factor of reduction, which is the antialias."""
    scale = num_in / num_out
    centres = (np.arange(num_out) + 0.5) * scale - 0.5
    weights = cubic((np.arange(num_in) - centres[:, None]) / max(scale, 1))
    return weights / weights.sum(axis=1, keepdims=True)


@pytest.mark.parametrize(
    ("height", "width"), [(60, 80), (81, 50), (33, 32), (35, 32), (32, 47), (20, 33), (32, 32)]
)
def test_crop_by_the_formula(height, width):
    """In numpy: long side and crop offset floored, sums rounded to 0 … 255 after each direction."""
    size = 32
    frames = make_pictures(2, height, width)
    short = min(height, width)
    new_height, new_width = size * height // short, size * width // short
    rows, columns = make_resize_matrix(height, new_height), make_resize_matrix(width, new_width)
    narrow = np.clip(np.round(np.einsum("thwc,pw->thpc", frames.astype(float), columns)), 0, 255)
    resized = np.clip(np.round(np.einsum("oh,thpc->topc", rows, narrow)), 0, 255)
    top, left = (new_height - size) // 2, (new_width - size) // 2
    expected = resized[:, top : top + size, left : left + size]
    difference = np.abs(
        to_pixels(FPigVideoProcessor(num_frames=2, size=size)(frames)["pixel_values"][0]) - expected
    )
    assert difference.max() < 2.01, "the weights are in fixed point"
    assert difference.mean() < 0.01


def test_squash_takes_the_whole_picture_without_antialias():
    """A third of the width: every third column's neighbours alone, by the cubic kernel with a = −3/4."""
    frames = make_pictures(2, 32, 96)
    pixels = to_pixels(
        FPigVideoProcessor(num_frames=2, size=32, resize_mode="squash")(frames)["pixel_values"][0]
    )
    assert np.abs(pixels - frames[:, :, 1::3]).max() < 0.51
    sides = np.zeros((2, 32, 96, 3), np.uint8)
    sides[:, :, :32], sides[:, :, 64:] = 255, 128
    crop = to_pixels(FPigVideoProcessor(num_frames=2, size=32)(sides)["pixel_values"][0])
    assert np.abs(crop[:, :, 4:-4]).max() < 1, "the crop has lost the sides"
    squash = FPigVideoProcessor(num_frames=2, size=32, resize_mode="squash")(sides)["pixel_values"][0]
    assert np.abs(to_pixels(squash)[:, 0, [3, 16, 28], 0] - [255, 0, 128]).max() < 1


def test_mean_and_std_are_those_of_the_channels():
    frames = np.empty((1, 8, 8, 3), np.uint8)
    frames[:] = (255, 0, 51)
    ours = FPigVideoProcessor(num_frames=1, size=8, image_mean=(0.1, 0.2, 0.3), image_std=(0.5, 0.25, 0.1))(
        frames
    )["pixel_values"]
    expected = torch.tensor([(1 - 0.1) / 0.5, (0 - 0.2) / 0.25, (0.2 - 0.3) / 0.1])
    assert torch.allclose(ours[0, 0], expected.view(3, 1, 1).expand(3, 8, 8), atol=1e-6)
    assert CLIP_MEAN == (0.48145466, 0.4578275, 0.40821073)
    assert CLIP_STD == (0.26862954, 0.26130258, 0.27577711)


def test_resized_frames_are_bytes_without_wrapping():
    """Bicubic overshoots at edges; nothing above 255 turns black."""
    frame = np.zeros((50, 50, 3), np.uint8)
    frame[20:30, 20:30] = 255
    for mode in ("crop", "squash"):
        resized = resize_frame(frame, 32, mode)
        assert resized.dtype == np.uint8
        assert (resized[14:18, 14:18] == 255).all()
        assert (resized[:10] == 0).all()


def test_return_tensors(small_processor):
    frames = make_pictures(3, 32, 32)
    as_tensor = small_processor(frames, return_tensors="pt")["pixel_values"]
    as_array = small_processor(frames, return_tensors="np")["pixel_values"]
    assert isinstance(as_array, np.ndarray)
    assert np.array_equal(as_array, as_tensor.numpy())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_frames": 0}, "`num_frames` is 0; it must be an integer of at least 1"),
        ({"num_frames": 2.5}, "`num_frames` is 2.5"),
        ({"num_frames": True}, "`num_frames` is True"),
        ({"size": -4}, "`size` is -4"),
        ({"resize_mode": "stretch"}, "`resize_mode` is 'stretch'; it must be one of crop, squash"),
        ({"image_mean": (0.5,)}, r"`image_mean` is \(0.5,\); it must have 3 finite numbers"),
        ({"image_mean": "0.5"}, r"`image_mean` is 0.5; it must have 3 finite numbers"),
        ({"image_mean": (0.5, math.nan, 0)}, r"`image_mean` is \(0.5, nan, 0\); it must have 3 finite"),
        ({"image_std": (0.5, 0.5)}, r"`image_std` is \(0.5, 0.5\); it must have 3 finite numbers"),
        ({"image_std": (0.5, math.inf, 1)}, r"`image_std` is \(0.5, inf, 1\); it must have 3 finite numbers"),
        ({"image_std": (0.5, 0, 0.5)}, r"`image_std` is \(0.5, 0, 0.5\); its numbers must be above 0"),
    ],
)
def test_bad_settings_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        FPigVideoProcessor(**settings)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"videos": []}, "`videos` is an empty list; pass at least one video"),
        ({"num_frames": 0}, "`num_frames` is 0"),
        ({"num_candidates": 0}, "`num_candidates` is 0; it must be an integer of at least 1"),
        ({"mode": "eval"}, "`mode` is 'eval'; it must be one of test, train"),
        ({"return_tensors": "tf"}, "`return_tensors` is 'tf'; it must be 'pt' or 'np'"),
    ],
)
def test_bad_arguments_are_named(small_processor, arguments, message):
    with pytest.raises(ValueError, match=message):
        small_processor(**{"videos": np.zeros((2, 8, 8, 3), np.uint8)} | arguments)


def test_unknown_argument_is_refused(small_processor):
    with pytest.raises(TypeError, match="num_frame"):
        small_processor(np.zeros((2, 8, 8, 3), np.uint8), num_frame=3)


# --- what explains a result ---


def test_pictures_are_what_the_model_saw(small_processor):
    frames = make_pictures(3, 32, 32)
    pictures = small_processor.make_pictures(small_processor(frames)["pixel_values"][0])
    assert pictures.dtype == torch.uint8
    assert np.array_equal(pictures.permute(0, 2, 3, 1).numpy(), frames)


def test_frame_seconds_are_those_of_the_frames_taken(small_processor):
    """The clip has 30 frames at 10 per second."""
    clip = make_clip("mp4_short_groups")
    expected = [index / 10 for index in sample_frame_indices(30, 3)]
    assert small_processor.read_frame_seconds(clip) == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("resize_mode", ["crop", "squash"])
def test_frames_of_the_right_size_stay_as_they_are(resize_mode):
    frames = make_pictures(3, 48, 48)
    processor = FPigVideoProcessor(num_frames=3, size=48, resize_mode=resize_mode)
    pixel_values = processor(frames)["pixel_values"][0]
    assert torch.equal(processor.make_pictures(pixel_values), torch.from_numpy(frames).permute(0, 3, 1, 2))
    larger = FPigVideoProcessor(num_frames=3, size=48, resize_mode=resize_mode)(make_pictures(3, 48, 96))
    assert larger["pixel_values"].shape == (1, 3, 3, 48, 48)


def test_candidates_of_a_video(small_processor):
    processor = small_processor
    frames = make_pictures(20, 40, 50)
    candidates = processor.read_candidates(frames, 7)
    assert candidates.dtype == torch.uint8
    assert candidates.shape == (7, 3, 32, 32)
    expected = processor(frames[[0, 3, 6, 9, 12, 15, 19]], num_frames=7)["pixel_values"][0]
    assert torch.equal(candidates, processor.make_pictures(expected))
    assert len(processor.read_candidates(frames, 50)) == 20
    few = processor(frames, num_candidates=7)["pixel_values"]
    assert torch.equal(few, processor(candidates)["pixel_values"])
    assert torch.equal(
        processor(frames, num_candidates=50)["pixel_values"], processor(frames)["pixel_values"]
    )
    with pytest.raises(ValueError, match="`num_candidates` is -1; it must be an integer of at least 1"):
        processor.read_candidates(frames, -1)
