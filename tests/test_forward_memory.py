"""What a pass over videos keeps out of memory: attention maps, unread tokens, more for backward than CLIP."""

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import CLIPVisionModel

from fpig.embedding import embed_items
from modeling_fpig import FPigConfig, FPigModel

# Of the tiny model: globals, a frame's tokens, these together, all tokens, the generator's sequence.
NUM_GLOBAL, FRAME_LENGTH, FRAME_KEYS, NUM_TOKENS, GENERATOR_LENGTH = 3, 10, 13, 43, 14
MAPS = {
    *((num_queries, NUM_TOKENS) for num_queries in (NUM_GLOBAL, FRAME_LENGTH, FRAME_KEYS, NUM_TOKENS)),
    (FRAME_LENGTH, FRAME_LENGTH),
    (FRAME_LENGTH, FRAME_KEYS),
    (GENERATOR_LENGTH, GENERATOR_LENGTH),
}


class ShapeRecorder(TorchDispatchMode):
    """Shapes of all tensors that operators make inside the block; views of what was there don't count."""

    def __init__(self) -> None:
        super().__init__()
        self.shapes = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        outputs = function(*args, **(kwargs or {}))
        inputs = {tensor.untyped_storage().data_ptr() for tensor in list_tensors((args, kwargs))}
        for tensor in list_tensors(outputs):
            if tensor.untyped_storage().data_ptr() not in inputs:
                self.shapes.add(tuple(tensor.shape))
        return outputs


def list_tensors(tree):
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]


def find_maps(model, pixel_values):
    """Shapes [..., queries, keys] among those that encoding makes."""
    with torch.no_grad(), ShapeRecorder() as recorder:  # inference mode would hide what sdpa is made of
        model.encode_video(pixel_values)
    assert (3, 6, NUM_TOKENS) in recorder.shapes  # the class token's row
    return {shape[-2:] for shape in recorder.shapes if len(shape) > 2} & MAPS


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_no_attention_map_but_the_class_tokens_row(tiny_model, tiny_batch, dtype):
    assert find_maps(tiny_model.to(dtype), tiny_batch["pixel_values"]) == set()


def test_attention_maps_would_be_seen(tiny_model, tiny_batch):
    """In eager attention, and where sdpa falls back to its definition."""
    expected = {(FRAME_LENGTH, FRAME_KEYS), (NUM_GLOBAL, NUM_TOKENS), (GENERATOR_LENGTH, GENERATOR_LENGTH)}
    with sdpa_kernel(SDPBackend.MATH):
        assert find_maps(tiny_model, tiny_batch["pixel_values"]) == expected
    tiny_model.set_attn_implementation("eager")
    assert find_maps(tiny_model, tiny_batch["pixel_values"]) == expected


@pytest.mark.parametrize(
    ("video_pooling", "num_tokens", "num_read"),
    [("pseudo_query", 43, 3 + 4 + 5), ("class_token", 43, 3 + 4), ("mean", 40, 4)],
)
def test_last_layer_finishes_only_what_is_read(
    make_tiny_model, tiny_batch, video_pooling, num_tokens, num_read
):
    model = make_tiny_model(video_pooling=video_pooling)
    lengths = []
    for layer in model.vision_model.encoder.layers:
        layer.mlp.register_forward_hook(lambda _, inputs, output: lengths.append(output.shape[1]))
    model.encode_video(tiny_batch["pixel_values"])
    model(**tiny_batch)
    model.get_video_features(tiny_batch["pixel_values"], output_last_hidden_state=False)
    embed_items(model, list(enumerate(tiny_batch["pixel_values"])))
    assert lengths == [num_tokens, num_read] * 4
    features = model.get_video_features(tiny_batch["pixel_values"])
    assert lengths[8:] == [num_tokens, num_tokens]
    assert features.last_hidden_state.shape == (3, num_tokens, 40)
    assert features.to_tuple()[0] is features.last_hidden_state


def count_saved_bytes(model, function):
    """Of what autograd keeps for backward, parameters aside; tensors that share memory count once."""
    parameters = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept = {}

    def keep(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        function()
    return sum(tensor.untyped_storage().nbytes() for place, tensor in kept.items() if place not in parameters)


def test_backward_needs_no_more_than_clips():
    """In the proportions of ViT-B/32: the keys and values joined for every frame are paid for elsewhere."""
    tower = {"hidden_size": 32, "intermediate_size": 128, "num_hidden_layers": 3, "num_attention_heads": 2}
    config = FPigConfig(vision_config=tower, text_config=tower, projection_dim=32)
    model, clip = FPigModel(config), CLIPVisionModel(config.vision_config)
    pixel_values = torch.randn(2, 12, 3, 224, 224)
    ours = count_saved_bytes(model, lambda: model.vision_model(pixel_values))
    clips = count_saved_bytes(clip, lambda: clip(pixel_values=pixel_values.flatten(0, 1)))
    assert ours < clips
