"""The model against numbers that the authors' research code computed (see `data/README.md`)."""

import json
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from fpig.conversion import convert_checkpoint, rename_key
from modeling_fpig import FPigModel
from modeling_fpig.pseudo_query_fpig import select_informative_tokens

FOLDER = Path(__file__).parent / "data" / "golden"
CASES = ("tiny_bos1", "tiny_bos0", "tiny_pig")
FEATURES, LOSSES = 2e-5, 1e-5
EXPECTED = json.loads((FOLDER / "expected.json").read_text())


def load_case(file_name: str, case: str) -> dict[str, torch.Tensor]:
    """A file's tensors for one case: those that all cases share, and the case's own in their place."""
    tensors = load_file(FOLDER / file_name)
    shared = {name: value for name, value in tensors.items() if "/" not in name}
    own = {name.split("/")[1]: value for name, value in tensors.items() if name.startswith(f"{case}/")}
    return shared | own


def load_checkpoint(case: str) -> dict[str, torch.Tensor]:
    """The case's state dict in the authors' key layout."""
    state_dict = load_case("weights.safetensors", case)
    if case == "tiny_pig":
        for name in ("bos_tokens", "query_tokens", "clip_reconstructor.text_projection.weight"):
            del state_dict[f"generator.{name}"]
    return state_dict


def make_config_fields(case: str) -> dict:
    return EXPECTED["config"] | {"generator_begin_token": EXPECTED["generator_begin_token"][case]}


def assert_near(actual: torch.Tensor, expected: torch.Tensor, tolerance: float) -> None:
    torch.testing.assert_close(actual, expected, rtol=0, atol=tolerance)


class Golden:
    """One case: the converted model, its inputs and the numbers to meet."""

    def __init__(self, case: str, folder: Path) -> None:
        self.case = case
        save_file(load_checkpoint(case), folder / "weights.safetensors")
        self.model = convert_checkpoint(folder / "weights.safetensors", make_config_fields(case)).eval()
        self.inputs = load_file(FOLDER / "inputs.safetensors")
        self.expected = load_case("outputs.safetensors", case)
        self.gradient_norms = EXPECTED["gradient_norms"][case]
        self.output = self.model(**self.inputs)
        self.output.loss.backward()
        self.gradients = {name: value.grad for name, value in self.model.named_parameters()}
        with torch.no_grad():
            text_inputs = {name: self.inputs[name] for name in ("input_ids", "attention_mask")}
            self.text = self.model.get_text_features(**text_inputs)
            self.video = self.model.get_video_features(self.inputs["pixel_values"])


@pytest.fixture(scope="module", params=CASES)
def golden(request, tmp_path_factory):
    return Golden(request.param, tmp_path_factory.mktemp(request.param))


def test_caption_features(golden):
    assert_near(golden.text.pooler_output, golden.expected["text_feats"], FEATURES)


def test_video_embeddings_before_the_first_layer_norm(golden):
    tokens = golden.model.vision_model.embeddings(golden.inputs["pixel_values"])
    assert_near(tokens, golden.expected["vision_embeddings"], FEATURES)


def test_all_video_tokens(golden):
    assert_near(golden.video.last_hidden_state, golden.expected["video_all_feats"], FEATURES)
    assert_near(golden.video.last_hidden_state[:, 0], golden.expected["video_feats"], FEATURES)


def test_class_token_attention_of_the_last_layer(golden):
    _, attention = golden.model.vision_model(golden.inputs["pixel_values"])
    assert_near(attention, golden.expected["class_token_attention"], FEATURES)


def test_selected_tokens(golden):
    assert torch.equal(golden.video.selected_token_indices, golden.expected["topk_indices"])
    assert torch.equal(golden.output.selected_token_indices, golden.expected["topk_indices"])


def test_selection_from_the_authors_attention(golden):
    attention = golden.expected["class_token_attention"]
    indices = select_informative_tokens(attention, num_frames=4, num_global_tokens=4, num_selected=4)
    assert torch.equal(indices, golden.expected["topk_indices"])
    assert_near(attention.amax(1).gather(1, indices), golden.expected["topk_values"], 0)


def test_generator_sequence(golden):
    """Global, frame and selected tokens go in; the blocks see them mapped, between slots, plus positions."""
    inputs = []
    hooks = [
        module.register_forward_pre_hook(lambda _, arguments: inputs.append(arguments[0]))
        for module in (golden.model.generator, golden.model.generator.encoder)
    ]
    with torch.no_grad():
        golden.model.get_video_features(golden.inputs["pixel_values"])
    for hook in hooks:
        hook.remove()
    assert_near(inputs[0], golden.expected["generator_selected_video_feats"], FEATURES)
    assert_near(inputs[1], golden.expected["generator_inputs_embeds"], FEATURES)


def test_pseudo_query(golden):
    assert_near(golden.video.pseudo_query, golden.expected["generated_global_text_feats"], FEATURES)


def test_interaction(golden):
    pooled = golden.model.interaction(
        golden.expected["generated_global_text_feats"][:, None],
        golden.expected["fusioner_selected_video_feats"],
    )
    assert_near(pooled[:, 0], golden.expected["final_video_feats"], FEATURES)


def test_video_features(golden):
    assert_near(golden.video.pooler_output, golden.expected["final_video_feats"], FEATURES)


def test_similarity(golden):
    assert_near(
        golden.output.text_embeds @ golden.output.video_embeds.T, golden.expected["similarity_t2v"], FEATURES
    )
    scale = math.exp(golden.model.logit_scale.item())
    assert_near(golden.output.logits_per_text, scale * golden.expected["similarity_t2v"], FEATURES * scale)
    assert torch.equal(golden.output.logits_per_video, golden.output.logits_per_text.T)


def test_losses(golden):
    for ours, theirs in (("retrieval_loss",) * 2, ("generation_loss",) * 2, ("loss", "total_loss")):
        assert_near(golden.output[ours], golden.expected[theirs].squeeze(), LOSSES)


def test_gradient_norms_of_every_parameter(golden):
    floor = 1e-4 * max(norm for norm in golden.gradient_norms.values() if norm is not None)
    met = set()
    for their_name, norm in golden.gradient_norms.items():
        name = rename_key(their_name)
        if name.endswith("k_proj.bias"):
            met.add(name)  # the softmax doesn't see it: noise
        elif norm is None:  # the authors' checkpoints store the begin slot also where it is not used
            assert name == "generator.begin_embedding"
            assert name not in golden.gradients
        else:
            met.add(name)
            ours = golden.gradients[name].norm().item()
            assert abs(ours - norm) <= 1e-3 * norm + floor, their_name
    if golden.case == "tiny_pig":  # its slots are constants
        met |= {"generator.begin_embedding", "generator.end_embedding"}
    assert met == set(golden.gradients)


def test_gradients_of_the_small_parameters(golden):
    largest = max(norm for norm in golden.gradient_norms.values() if norm is not None)
    names = [name for name in golden.expected if name.startswith("grad.") and "k_proj.bias" not in name]
    assert len(names) > 50
    for name in names:
        ours, theirs = golden.gradients[rename_key(name[5:])], golden.expected[name].squeeze(0)
        error = (ours - theirs.view_as(ours)).norm()
        assert error <= 1e-3 * theirs.norm() + 1e-4 * largest, name


def test_temporal_table_is_interpolated(golden):
    pixel_values = golden.inputs["pixel_values"]
    longer = torch.cat([pixel_values[:1], pixel_values[1:2, :2]], dim=1)
    for frames, name in ((longer, "longer"), (pixel_values[:1, :2], "shorter")):
        with torch.no_grad():
            tokens = golden.model.get_video_features(frames).last_hidden_state
        assert_near(tokens[:, 0], golden.expected[f"interp_video_feats_{name}"], FEATURES)


@pytest.mark.parametrize("case", CASES)
def test_pt_checkpoint_gives_the_same_model(case, tmp_path):
    models = []
    for file_name, save in (("a.safetensors", save_file), ("a.pt", lambda d, path: torch.save(d, path))):
        save(load_checkpoint(case), tmp_path / file_name)
        models.append(convert_checkpoint(tmp_path / file_name, make_config_fields(case)).state_dict())
    assert models[0].keys() == models[1].keys()
    assert all(torch.equal(models[0][name], models[1][name]) for name in models[0])


def test_class_token_baseline(golden, tmp_path):
    """The same weights without generator and interaction are the authors' CLIP-ViP baseline."""
    golden.model.save_pretrained(tmp_path)
    baseline = FPigModel.from_pretrained(tmp_path, video_pooling="class_token").eval()
    with torch.no_grad():
        output = baseline(**golden.inputs)
    assert_near(output.loss, golden.expected["baseline_retrieval_loss"].squeeze(), LOSSES)
    assert output.generation_loss is None
    assert output.pseudo_query_embeds is None
    assert_near(
        output.video_embeds,
        torch.nn.functional.normalize(golden.expected["video_feats"], dim=-1),
        FEATURES,
    )
