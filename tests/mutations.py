"""
Wrong versions of the method, each with the test that must catch it.

    python tests/mutations.py [NAME ...]

Copies the project to a temporary folder, checks that the named tests pass there, then puts in one wrong
version at a time and runs its test. Ends with an error when a wrong version survives.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
ENVIRONMENT = {"PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}


@dataclass(frozen=True)
class Mutation:
    """`original`, which `file` has exactly once, becomes `wrong`; `test` must then fail."""

    name: str
    file: str
    original: str
    wrong: str
    test: str


VIDEO = (
    Mutation(
        "frames see the next frame's tokens: mask off by one",
        "modeling_fpig/video_fpig.py",
        "frames = tokens[:, num_global_tokens:].unflatten(1, (num_frames, -1))",
        "frames = tokens[:, num_global_tokens:].roll(1, 1).unflatten(1, (num_frames, -1))",
        "tests/test_reference.py::test_proxy_guided_attention",
    ),
    Mutation(
        "frames see the class token alone, not the proxies",
        "modeling_fpig/video_fpig.py",
        "shared = tokens[:, None, :num_global_tokens].expand(-1",
        "shared = tokens[:, None, :1].expand(-1",
        "tests/test_reference.py::test_proxy_guided_attention",
    ),
    Mutation(
        "globals see the first frame alone",
        "modeling_fpig/video_fpig.py",
        "(global_query, key, value)",
        "(global_query, key[:, :13], value[:, :13])",
        "tests/test_reference.py::test_proxy_guided_attention",
    ),
    Mutation(
        "globals get a temporal term",
        "modeling_fpig/video_fpig.py",
        "(global_tokens + self.position_embedding.weight[0])",
        "(global_tokens + self.position_embedding.weight[0] + self.get_temporal_embedding(num_frames)[0])",
        "tests/test_golden.py::test_video_embeddings_before_the_first_layer_norm",
    ),
    Mutation(
        "globals get no position",
        "modeling_fpig/video_fpig.py",
        "(global_tokens + self.position_embedding.weight[0]).expand",
        "global_tokens.expand",
        "tests/test_golden.py::test_video_embeddings_before_the_first_layer_norm",
    ),
    Mutation(
        "frame token after its patches",
        "modeling_fpig/video_fpig.py",
        "torch.cat([frame_tokens, patches], dim=1)",
        "torch.cat([patches, frame_tokens], dim=1)",
        "tests/test_reference.py::test_whole_model",
    ),
    Mutation(
        "patches in the positions of their neighbours",
        "modeling_fpig/video_fpig.py",
        "dim=1) + self.position_embedding.weight  #",
        "dim=1) + self.position_embedding.weight.roll(1, 0)  #",
        "tests/test_golden.py::test_video_embeddings_before_the_first_layer_norm",
    ),
    Mutation(
        "temporal table taken from the nearest frame",
        "modeling_fpig/video_fpig.py",
        'mode="linear"',
        'mode="nearest"',
        "tests/test_golden.py::test_temporal_table_is_interpolated",
    ),
    Mutation(
        "no layer norm after the blocks",
        "modeling_fpig/video_fpig.py",
        "return self.post_layernorm(hidden_states)",
        "return hidden_states",
        "tests/test_golden.py::test_all_video_tokens",
    ),
    Mutation(
        "scores of the first layer",
        "modeling_fpig/video_fpig.py",
        "class_token_attention = last_layer.self_attn",
        "class_token_attention = self.encoder.layers[0].self_attn",
        "tests/test_golden.py::test_class_token_attention_of_the_last_layer",
    ),
    Mutation(
        "scores without the layer norm before them",
        "modeling_fpig/video_fpig.py",
        "last_layer.layer_norm1(hidden_states)",
        "hidden_states",
        "tests/test_golden.py::test_class_token_attention_of_the_last_layer",
    ),
    Mutation(
        "scores with a gradient",
        "modeling_fpig/video_fpig.py",
        "with torch.no_grad():",
        "with torch.enable_grad():",
        "tests/test_modeling.py::test_no_gradient_through_the_selection",
    ),
    Mutation(
        "mean pooling of features that are not normalised",
        "modeling_fpig/modeling_fpig.py",
        "normalize(summary).mean(dim=1)",
        "summary.mean(dim=1)",
        "tests/test_initialization.py::test_mean_pooling_is_clip4clips",
    ),
)

SELECTION_AND_GENERATOR = (
    Mutation(
        "mean over heads instead of maximum",
        "modeling_fpig/pseudo_query_fpig.py",
        "class_token_attention.amax(dim=1)",
        "class_token_attention.mean(dim=1)",
        "tests/test_golden.py::test_selection_from_the_authors_attention",
    ),
    Mutation(
        "patches in order of position",
        "modeling_fpig/pseudo_query_fpig.py",
        "stable=True)[:, :num_selected]",
        "stable=True)[:, :num_selected].sort(dim=-1).values",
        "tests/test_golden.py::test_selected_tokens",
    ),
    Mutation(
        "worst patches first",
        "modeling_fpig/pseudo_query_fpig.py",
        "scores.argsort(dim=-1, descending=True",
        "scores.abs().argsort(dim=-1, descending=False",
        "tests/test_reference.py::test_selection",
    ),
    Mutation(
        "frame tokens may be selected",
        "modeling_fpig/pseudo_query_fpig.py",
        "(in_frame_positions > 0)",
        "(in_frame_positions >= 0)",
        "tests/test_golden.py::test_selection_from_the_authors_attention",
    ),
    Mutation(
        "proxies may be selected",
        "modeling_fpig/pseudo_query_fpig.py",
        "(positions >= num_global_tokens) &",
        "(positions >= 1) &",
        "tests/test_reference.py::test_selection",
    ),
    Mutation(
        "selected patches before the frame tokens",
        "modeling_fpig/modeling_fpig.py",
        "torch.cat([positions, selected], dim=1)",
        "torch.cat([selected, positions], dim=1)",
        "tests/test_golden.py::test_generator_sequence",
    ),
    Mutation(
        "begin slot after the first token",
        "modeling_fpig/pseudo_query_fpig.py",
        "slots.insert(0,",
        "slots.insert(1,",
        "tests/test_reference.py::test_generator",
    ),
    Mutation(
        "generator's positions start at 1",
        "modeling_fpig/pseudo_query_fpig.py",
        "self.position_embedding.weight[:length]",
        "self.position_embedding.weight[1 : length + 1]",
        "tests/test_golden.py::test_generator_sequence",
    ),
    Mutation(
        "pseudo-query read before the end slot",
        "modeling_fpig/pseudo_query_fpig.py",
        "hidden_states[:, -1]",
        "hidden_states[:, -2]",
        "tests/test_golden.py::test_pseudo_query",
    ),
    Mutation(
        "generator without a causal mask",
        "modeling_fpig/pseudo_query_fpig.py",
        "attention_mask=mask, is_causal=True",
        "attention_mask=None, is_causal=False",
        "tests/test_reference.py::test_generator",
    ),
)

INTERACTION = (
    Mutation(
        "query and tokens have layer norms of their own",
        "modeling_fpig/interaction_fpig.py",
        "self.q_proj(self.layer_norm1(queries))",
        "self.q_proj(self.layer_norm2(queries))",
        "tests/test_golden.py::test_interaction",
    ),
    Mutation(
        "pseudo-query added to the result",
        "modeling_fpig/interaction_fpig.py",
        "output = self.layer_norm2(self.out_proj(pooled))",
        "output = self.layer_norm2(self.out_proj(pooled) + queries)",
        "tests/test_reference.py::test_interaction",
    ),
    Mutation(
        "interaction without its own residual",
        "modeling_fpig/interaction_fpig.py",
        "self.layer_norm3(output + self.dropout",
        "self.layer_norm3(self.dropout",
        "tests/test_golden.py::test_interaction",
    ),
    Mutation(
        "interaction without the square root of the width",
        "modeling_fpig/interaction_fpig.py",
        "scaled_dot_product_attention(queries, keys, values)",
        "scaled_dot_product_attention(queries, keys, values, scale=1.0)",
        "tests/test_golden.py::test_interaction",
    ),
    Mutation(
        "interaction over the patches too",
        "modeling_fpig/modeling_fpig.py",
        "self.interaction(pseudo_query[:, None], summary)",
        "self.interaction(pseudo_query[:, None], tokens)",
        "tests/test_golden.py::test_video_features",
    ),
)

CAPTIONS_AND_BLOCKS = (
    Mutation(
        "GELU for quick-GELU",
        "modeling_fpig/transformer_fpig.py",
        "self.activation_fn = quick_gelu if",
        "self.activation_fn = nn.functional.gelu if",
        "tests/test_golden.py::test_caption_features",
    ),
    Mutation(
        "MLP before attention",
        "modeling_fpig/transformer_fpig.py",
        "hidden_states = hidden_states + self.self_attn("
        "self.layer_norm1(hidden_states), **attention_arguments)\n"
        "        return hidden_states + self.mlp(self.layer_norm2(hidden_states))",
        "hidden_states = hidden_states + self.mlp(self.layer_norm2(hidden_states))\n"
        "        return hidden_states + self.self_attn("
        "self.layer_norm1(hidden_states), **attention_arguments)",
        "tests/test_reference.py::test_proxy_guided_attention",
    ),
    Mutation(
        "softmax over the queries",
        "modeling_fpig/transformer_fpig.py",
        "softmax(weights, dim=-1,",
        "softmax(weights, dim=-2,",
        "tests/test_modeling.py::test_eager_equals_sdpa",
    ),
    Mutation(
        "captions pooled at the last end-of-text token",
        "modeling_fpig/text_fpig.py",
        "return is_end.int().argmax(dim=-1)",
        "return input_ids.shape[1] - 1 - is_end.flip(-1).int().argmax(dim=-1)",
        "tests/test_modeling.py::test_captions_are_pooled_at_the_first_end_of_text",
    ),
    Mutation(
        "caption tower without a causal mask",
        "modeling_fpig/text_fpig.py",
        "attention_mask=mask, is_causal=True",
        "attention_mask=None, is_causal=False",
        "tests/test_golden.py::test_caption_features",
    ),
    Mutation(
        "padding seen by words",
        "modeling_fpig/text_fpig.py",
        "create_causal_mask(self.config, hidden_states, attention_mask, None)",
        "create_causal_mask(self.config, hidden_states, None, None)",
        "tests/test_modeling.py::test_left_padding_is_masked",
    ),
)

LOSSES = (
    Mutation(
        "loss averaged over the two directions",
        "modeling_fpig/loss_fpig.py",
        "return nn.functional.cross_entropy(logits, targets) + nn",
        "return 0.5 * nn.functional.cross_entropy(logits, targets) + 0.5 * nn",
        "tests/test_golden.py::test_losses",
    ),
    Mutation(
        "one direction twice",
        "modeling_fpig/loss_fpig.py",
        "cross_entropy(logits.T, targets)",
        "cross_entropy(logits, targets)",
        "tests/test_loss.py::test_contrastive_loss_sees_both_directions",
    ),
    Mutation(
        "scale without the exponential",
        "modeling_fpig/loss_fpig.py",
        "logit_scale.float().exp() *",
        "logit_scale.float() *",
        "tests/test_golden.py::test_losses",
    ),
    Mutation(
        "captions detached in the generation loss",
        "modeling_fpig/loss_fpig.py",
        "text_embeds.float()).sum(dim=-1)",
        "text_embeds.float().detach()).sum(dim=-1)",
        "tests/test_loss.py::test_captions_are_not_detached",
    ),
    Mutation(
        "weight of the generation loss ignored",
        "modeling_fpig/modeling_fpig.py",
        "self.config.generation_loss_weight * generation",
        "generation",
        "tests/test_loss.py::test_total_loss_weighs_the_generation_loss",
    ),
    Mutation(
        "temperature unclamped",
        "modeling_fpig/modeling_fpig.py",
        "self.logit_scale.clamp(0, MAX_LOGIT_SCALE)",
        "self.logit_scale.clamp(0, 100)",
        "tests/test_modeling.py::test_temperature_is_clamped_and_still_learns",
    ),
    Mutation(
        "temperature stuck at its limit",
        "modeling_fpig/modeling_fpig.py",
        "return self.logit_scale + (clamped - self.logit_scale).detach()",
        "return clamped",
        "tests/test_modeling.py::test_temperature_is_clamped_and_still_learns",
    ),
)

START = (
    Mutation(
        "generator's projection left random",
        "modeling_fpig/modeling_fpig.py",
        "generator.text_projection.load_state_dict(self.text_projection.state_dict())",
        "pass",
        "tests/test_initialization.py::test_generator_is_a_second_copy_of_the_caption_tower",
    ),
    Mutation(
        "end slot starts from the begin token",
        "modeling_fpig/modeling_fpig.py",
        "generator.end_embedding.copy_(token_embeddings[self.config.text_config.eos_token_id])",
        "generator.end_embedding.copy_(token_embeddings[self.config.text_config.bos_token_id])",
        "tests/test_initialization.py::test_generator_is_a_second_copy_of_the_caption_tower",
    ),
    Mutation(
        "frame token left random",
        "modeling_fpig/modeling_fpig.py",
        "self.vision_model.embeddings.frame_embedding.copy_(weights[CLASS_EMBEDDING])",
        "pass",
        "tests/test_initialization.py::test_new_frame_tokens_make_one_frame_like_clips_image",
    ),
    Mutation(
        "proxies start as small as other embeddings",
        "modeling_fpig/initialization_fpig.py",
        "init.normal_(embeddings.proxy_embedding)",
        "init.normal_(embeddings.proxy_embedding, std=0.02)",
        "tests/test_initialization.py::test_what_clip_lacks_starts_as_published",
    ),
    Mutation(
        "custom code's blocks left as a plain Linear starts",
        "modeling_fpig/modeling_fpig.py",
        "super()._initialize_weights(module, is_custom_code=False)",
        "super()._initialize_weights(module, is_custom_code=is_custom_code)",
        "tests/test_initialization.py::test_switching_to_the_pseudo_query_at_load_starts_the_generator_properly",
    ),
    Mutation(
        "begin and end rows swapped in conversion",
        "fpig/conversion.py",
        'converted["generator.begin_embedding"] = table[config.text_config.bos_token_id]',
        'converted["generator.begin_embedding"] = table[config.text_config.eos_token_id]',
        "tests/test_conversion.py::test_both_layouts",
    ),
    Mutation(
        "checkpoints unpickled",
        "fpig/conversion.py",
        'map_location="cpu", weights_only=True',
        'map_location="cpu", weights_only=False',
        "tests/test_conversion.py::test_pickled_code_is_refused_and_does_not_run",
    ),
)

TRAINING = (
    Mutation(
        "videos drawn with replacement: two captions of one meet in a batch",
        "fpig/sampler.py",
        "torch.randperm(self.num_videos, generator",
        "torch.randint(self.num_videos, (self.num_videos,), generator",
        "tests/test_sampler.py::test_no_video_meets_itself_in_a_joint_batch",
    ),
    Mutation(
        "always a video's first caption",
        "fpig/training_items.py",
        "record.captions[caption_index]",
        "record.captions[0]",
        "tests/test_training_items.py::test_draws_depend_on_seed_epoch_and_index_alone",
    ),
    Mutation(
        "the same frames and caption every epoch",
        "fpig/training_items.py",
        "seed_generator(self.seed, epoch, index)",
        "seed_generator(self.seed, index)",
        "tests/test_training_items.py::test_draws_depend_on_seed_epoch_and_index_alone",
    ),
    Mutation(
        "the same order every epoch",
        "fpig/sampler.py",
        'seed_generator(self.seed, "order", epoch)',
        'seed_generator(self.seed, "order")',
        "tests/test_sampler.py::test_epoch_visits_every_video_once_in_an_order_of_its_own",
    ),
    Mutation(
        "gather without gradient",
        "fpig/distributed.py",
        "GatherWithGradient.apply(tensor) for",
        "GatherWithGradient.apply(tensor.detach()) for",
        "tests/test_distributed.py::test_gradients_equal_one_process_with_the_joint_batch",
    ),
    Mutation(
        "gathered gradients not summed over the processes",
        "fpig/distributed.py",
        "dist.all_reduce(gradient)",
        "pass",
        "tests/test_distributed.py::test_gradients_equal_one_process_with_the_joint_batch",
    ),
)

RANKS = (
    Mutation(
        "ties counted for the model: tie rule reversed",
        "metrics/video_retrieval/ranking.py",
        "return RetrievalRanks(t2v, t2v - t2v_above - 1,",
        "return RetrievalRanks(t2v_above + 1, t2v - t2v_above - 1,",
        "tests/test_ranking.py::test_ties_count_against_the_model",
    ),
    Mutation(
        "a video's mean caption instead of its best",
        "metrics/video_retrieval/ranking.py",
        "np.maximum.reduceat(true_scores, starts)",
        "np.add.reduceat(true_scores, starts) / np.diff(starts, append=len(labels))",
        "tests/test_ranking.py::test_ranks_are_the_definition_with_ties_ragged_captions_and_distractors",
    ),
    Mutation(
        "median is the lower of the middle two",
        "metrics/video_retrieval/ranking.py",
        "float(np.median(ranks))",
        "float(np.sort(ranks)[(len(ranks) - 1) // 2])",
        "tests/test_ranking.py::test_median_is_the_mean_of_the_middle_two",
    ),
    Mutation(
        "rank k is no hit at k",
        "metrics/video_retrieval/ranking.py",
        "np.count_nonzero(ranks <= k)",
        "np.count_nonzero(ranks < k)",
        "tests/test_ranking.py::test_summary_by_hand",
    ),
    Mutation(
        "ranks in the order of videos, not of captions",
        "metrics/video_retrieval/ranking.py",
        "t2v[order], t2v_above[order] = counts.t2v",
        "t2v[:], t2v_above[:] = counts.t2v",
        "tests/test_ranking.py::test_block_size_and_caption_order_do_not_matter",
    ),
    Mutation(
        "NaN ranks first",
        "metrics/video_retrieval/ranking.py",
        "            check_block(block)\n",
        "",
        "tests/test_ranking.py::test_bad_scores_are_refused",
    ),
)

RUNS = (
    Mutation(
        "generator stage trains the towers too",
        "fpig/trainer.py",
        'parameter.requires_grad_(name.startswith("generator."))',
        "parameter.requires_grad_(True)",
        "tests/test_stages.py::test_generator_stage_moves_the_generator_alone",
    ),
    Mutation(
        "joint stage before the others",
        "fpig/stages.py",
        'stages.append(Stage("joint", ',
        'stages.insert(0, Stage("joint", ',
        "tests/test_stages.py::test_stages_and_their_order",
    ),
    Mutation(
        "trained towers not handed to the next stage",
        "fpig/stages.py",
        "        changed.load_clip_weights(weights)\n",
        "",
        "tests/test_stages.py::test_every_method_starts_from_trained_towers_as_from_clip",
    ),
    Mutation(
        "class token starts from nothing after the tower stage",
        "fpig/stages.py",
        'weights[CLASS_EMBEDDING] = weights["vision_model.embeddings.frame_embedding"]',
        'weights[CLASS_EMBEDDING] = weights["vision_model.post_layernorm.weight"]',
        "tests/test_stages.py::test_every_method_starts_from_trained_towers_as_from_clip",
    ),
    Mutation(
        "trained temperature lost between the stages",
        "fpig/stages.py",
        "changed.logit_scale.data.copy_(model.logit_scale)",
        "pass",
        "tests/test_stages.py::test_every_method_starts_from_trained_towers_as_from_clip",
    ),
    Mutation(
        "towers trained on whole clips",
        "fpig/stages.py",
        'CLIP_FORM = ("mean", 1)',
        'CLIP_FORM = ("mean", 4)',
        "tests/test_stages.py::test_stages_and_their_order",
    ),
    Mutation(
        "every stage at the joint stage's learning rate",
        "fpig/stages.py",
        "stage_args.learning_rate = stage.learning_rate",
        "stage_args.learning_rate = args.learning_rate",
        "tests/test_stages.py::test_stages_learn_at_their_own_rates_for_their_own_epochs",
    ),
    Mutation(
        "every stage sees the captions and frames of the one before",
        "fpig/stages.py",
        "seed_generator(seed, stage.name)",
        "seed_generator(seed)",
        "tests/test_stages.py::test_every_stage_draws_anew",
    ),
    Mutation(
        "a stage's own draws never reach the sampler",
        "fpig/trainer.py",
        "EpochSampler(len(self.train_dataset), seed=self.seed)",
        "EpochSampler(len(self.train_dataset), seed=self.args.seed)",
        "tests/test_stages.py::test_a_stages_seed_reaches_order_and_captions",
    ),
    Mutation(
        "run goes on from a checkpoint that is cut short",
        "fpig/stages.py",
        "        except (FileNotFoundError, ValueError):\n            continue ",
        "        except (FileNotFoundError, ValueError):\n            pass ",
        "tests/test_stages.py::test_checkpoint_that_a_kill_cut_short_is_passed_over",
    ),
    Mutation(
        "run goes on with other settings",
        "fpig/settings.py",
        "if name not in FREE_SETTINGS and",
        "if name in FREE_SETTINGS and",
        "tests/test_training_args.py::test_run_goes_on_with_its_own_settings_alone",
    ),
    Mutation(
        "last checkpoint instead of the best",
        "fpig/stages.py",
        "if not has_validation or stage.generator_only:",
        "if True:",
        "tests/test_stages.py::test_best_checkpoint_by_validation_recall_comes_out",
    ),
    Mutation(
        "checkpoint of the lowest R@1",
        "fpig/training_args.py",
        'default=True, metadata={"help": "Whether that number should be large."}',
        'default=False, metadata={"help": "Whether that number should be large."}',
        "tests/test_stages.py::test_best_checkpoint_by_validation_recall_comes_out",
    ),
    Mutation(
        "YAML beats the command line",
        "fpig/argument_parsing.py",
        "            rest, return_remaining_strings=True",
        '            [*rest, *(f"--{k}={v}" for k, v in read_config(config_path, classes).items())],\n'
        "            return_remaining_strings=True",
        "tests/test_training_args.py::test_yaml_beats_defaults_and_the_command_line_beats_yaml",
    ),
    Mutation(
        "token written beside the weights",
        "fpig/settings.py",
        '("hub_token", "local_rank", "resume_from_checkpoint")',
        '("local_rank", "resume_from_checkpoint")',
        "tests/test_training_args.py::test_written_settings_are_read_back",
    ),
    Mutation(
        "generator's positions without the end slot",
        "fpig/start.py",
        "generator_length = 3 + args.num_proxy_tokens",
        "generator_length = 2 + args.num_proxy_tokens",
        "tests/test_start.py::test_text_positions_hold_captions_and_the_generators_sequence",
    ),
    Mutation(
        "card shows one direction thrice",
        "fpig/card.py",
        "[title, *(f\"{metrics[f'{direction}_{metric}']:.1f}\"",
        "[title, *(f\"{metrics[f't2v_{metric}']:.1f}\"",
        "tests/test_card.py::test_results_table_has_all_protocols",
    ),
    Mutation(
        "card's index rounds",
        "fpig/card.py",
        'metric_value=results["metrics"][f"{direction}_{metric}"]',
        'metric_value=round(results["metrics"][f"{direction}_{metric}"])',
        "tests/test_card.py::test_index_has_the_measured_numbers_of_all_protocols",
    ),
    Mutation(
        "eval results of one direction alone",
        "fpig/card.py",
        'value=results["metrics"][f"{direction}_{metric}"],\n            date',
        'value=results["metrics"][f"t2v_{metric}"],\n            date',
        "tests/test_card.py::test_eval_results_have_the_measured_numbers",
    ),
    Mutation(
        "resumed run forgets the time before",
        "fpig/training_record.py",
        'self.seconds = saved["attributes"]["seconds"]',
        "self.seconds = 0.0",
        "tests/test_training_record.py::test_resumed_stage_goes_on_counting",
    ),
    Mutation(
        "energy in watt-seconds",
        "fpig/training_record.py",
        'watt_hours += watts * stage["seconds"] / SECONDS_PER_HOUR',
        'watt_hours += watts * stage["seconds"]',
        "tests/test_training_record.py::test_energy_by_hand",
    ),
    Mutation(
        "energy of one GPU of many",
        "fpig/training_record.py",
        'watts = hardware["num_units"] * hardware["watts_per_unit"]',
        'watts = hardware["watts_per_unit"]',
        "tests/test_training_record.py::test_energy_by_hand",
    ),
)

PROCESSING = (
    Mutation(
        "frame index rounded instead of floored",
        "processing_fpig/frame_sampling_fpig.py",
        "np.linspace(first, last, num_frames).astype(int)",
        "np.linspace(first, last, num_frames).round().astype(int)",
        "tests/test_frame_sampling.py::test_test_mode_by_hand",
    ),
    Mutation(
        "frames spread over n instead of n − 1",
        "processing_fpig/frame_sampling_fpig.py",
        "first, last = 0, num_available - 1",
        "first, last = 0, max(num_available - 2, 0)",
        "tests/test_frame_sampling.py::test_test_mode_by_hand",
    ),
    Mutation(
        "training draws over n / T instead of n / (T − 1)",
        "processing_fpig/frame_sampling_fpig.py",
        "num_available // (num_frames - 1)",
        "num_available // num_frames",
        "tests/test_frame_sampling.py::test_train_mode_draws_both_ends",
    ),
    Mutation(
        "training never draws the last of its values",
        "processing_fpig/frame_sampling_fpig.py",
        "torch.randint(low, high + 1, ()",
        "torch.randint(low, max(high, low + 1), ()",
        "tests/test_frame_sampling.py::test_train_mode_draws_both_ends",
    ),
    Mutation(
        "training draws from the global generator",
        "processing_fpig/frame_sampling_fpig.py",
        "(), generator=generator))",
        "()))",
        "tests/test_frame_sampling.py::test_train_mode_repeats_with_its_generator_alone",
    ),
    Mutation(
        "frames in the order of decoding",
        "processing_fpig/frame_table_fpig.py",
        "times = sorted(entry.pts for entry in table if entry.is_shown)",
        "times = [entry.pts for entry in table if entry.is_shown]",
        "tests/test_decoding.py::test_every_frame_alone_is_that_frame",
    ),
    Mutation(
        "frames that are never shown are counted",
        "processing_fpig/frame_table_fpig.py",
        "times = sorted(entry.pts for entry in table if entry.is_shown)",
        "times = sorted(entry.pts for entry in table)",
        "tests/test_decoding.py::test_frames_cut_away_by_an_edit_list_are_not_counted",
    ),
    Mutation(
        "hidden VP8 frames are counted",
        "processing_fpig/frame_table_fpig.py",
        "is_vp8 and not memoryview(packet)[0] & 0x10",
        "is_vp8 and not packet.size",
        "tests/test_decoding.py::test_vp8_frames_that_are_never_shown_are_not_counted",
    ),
    Mutation(
        "equal times are one frame",
        "processing_fpig/frame_table_fpig.py",
        "return times if len(set(times)) == len(times) else None",
        "return times",
        "tests/test_decoding.py::test_two_frames_at_one_time_are_two_frames",
    ),
    Mutation(
        "avi's times are trusted",
        "processing_fpig/frame_table_fpig.py",
        'FORMATS_WITHOUT_TIMES = {"avi"}',
        'FORMATS_WITHOUT_TIMES = {"none"}',
        "tests/test_decoding.py::test_every_frame_alone_is_that_frame",
    ),
    Mutation(
        "decoder not flushed at the end of a group",
        "processing_fpig/decoding_fpig.py",
        "                frames += decoder.decode(None)\n",
        "",
        "tests/test_decoding.py::test_groups_without_a_wanted_frame_are_not_decoded",
    ),
    Mutation(
        "every group is decoded",
        "processing_fpig/decoding_fpig.py",
        "            if position not in needed:\n                continue\n",
        "",
        "tests/test_decoding.py::test_groups_without_a_wanted_frame_are_not_decoded",
    ),
    Mutation(
        "wanted frames left out because no other leans on them",
        "processing_fpig/decoding_fpig.py",
        '"DEFAULT" if table[position].pts in wanted else "NONREF"',
        '"NONREF"',
        "tests/test_decoding.py::test_pictures_that_nothing_leans_on_are_left_out",
    ),
    Mutation(
        "every frame of a group decoded, whether another leans on it or not",
        "processing_fpig/decoding_fpig.py",
        '"DEFAULT" if table[position].pts in wanted else "NONREF"',
        '"DEFAULT"',
        "tests/test_decoding.py::test_pictures_that_nothing_leans_on_are_left_out",
    ),
    Mutation(
        "pictures of lower layers left out in HEVC with temporal layers",
        "processing_fpig/frame_table_fpig.py",
        "header[21] >> 3 & 7 == 1",
        "header[21] >> 3 & 7 >= 1",
        "tests/test_decoding.py::test_hevc_with_temporal_layers_is_decoded_whole",
    ),
    Mutation(
        "exact and keyframe embeddings in one gallery",
        "fpig/index.py",
        '"image_std", "keyframes_only")',
        '"image_std")',
        "tests/test_index.py::test_fingerprint_tells_models_apart",
    ),
    Mutation(
        "every failure of the system is a full disk",
        "fpig/checkpoints.py",
        "is_full = isinstance(error, OSError) and error.errno in NO_ROOM",
        "is_full = isinstance(error, OSError)",
        "tests/test_crash.py::test_other_errors_stay_what_they_are",
    ),
    Mutation(
        "some packets of a large file kept as if they were all",
        "processing_fpig/frame_table_fpig.py",
        "return table, packets if num_bytes <= MAX_KEPT_BYTES else None",
        "return table, packets",
        "tests/test_decoding.py::test_files_too_large_to_keep_their_packets_give_the_same_frames",
    ),
    Mutation(
        "keyframe before instead of the nearest",
        "processing_fpig/frame_table_fpig.py",
        "key=lambda other, time=time: abs(other - time)",
        "key=lambda other, time=time: abs(other - time) + (other > time) * 10**9",
        "tests/test_decoding.py::test_keyframes_only_takes_the_nearest_in_time",
    ),
    Mutation(
        "the first keyframe is never taken",
        "processing_fpig/frame_table_fpig.py",
        "keyframe_times = sorted(entry.pts for entry in table if",
        "keyframe_times = sorted(entry.pts for entry in table[1:] if",
        "tests/test_decoding.py::test_keyframes_only_takes_the_nearest_in_time",
    ),
    Mutation(
        "seconds of the exact frames where keyframes are taken",
        "processing_fpig/video_processing_fpig.py",
        "return read_frame_seconds(video, choose_indices, self.keyframes_only)",
        "return read_frame_seconds(video, choose_indices)",
        "tests/test_decoding.py::test_keyframes_only_through_the_processor",
    ),
    Mutation(
        "planes of libav's order taken for red, green and blue",
        "processing_fpig/frames_fpig.py",
        "green, blue, red = (",
        "red, green, blue = (",
        "tests/test_decoding.py::test_colours_are_the_painted_ones",
    ),
    Mutation(
        "rotated the other way",
        "processing_fpig/frames_fpig.py",
        "k=round(frame.rotation / 90)",
        "k=-round(frame.rotation / 90)",
        "tests/test_decoding.py::test_rotation_as_a_player_shows_it",
    ),
    Mutation(
        "colour range of the file ignored",
        "processing_fpig/frames_fpig.py",
        'format="gbrp", interpolation=INTERPOLATION, threads',
        'format="gbrp", interpolation=INTERPOLATION, src_color_range=1, threads',
        "tests/test_decoding.py::test_colours_by_the_standards_formula",
    ),
    Mutation(
        "colour matrix of the file ignored",
        "processing_fpig/frames_fpig.py",
        'format="gbrp", interpolation=INTERPOLATION, threads',
        'format="gbrp", interpolation=INTERPOLATION, src_colorspace=1, threads',
        "tests/test_decoding.py::test_colours_by_the_standards_formula",
    ),
    Mutation(
        "lost frames are zeros",
        "processing_fpig/decoding_fpig.py",
        "return {key: pixels[other] for key, other in nearest.items()}",
        "return {key: pixels[other] * (key == other) for key, other in nearest.items()}",
        "tests/test_damaged_videos.py::test_lost_frames_are_replaced_by_the_nearest",
    ),
    Mutation(
        "damage passes silently",
        "processing_fpig/decoding_fpig.py",
        "    if num_lost or None in keys:\n",
        "    if num_lost > 99:\n",
        "tests/test_damaged_videos.py::test_lost_frames_are_replaced_by_the_nearest",
    ),
    Mutation(
        "any format is opened, playlists too",
        "processing_fpig/decoding_fpig.py",
        '"format_whitelist": FORMATS, "protocol_whitelist": "file", ',
        "",
        "tests/test_bad_videos.py::test_playlists_are_not_followed",
    ),
    Mutation(
        "paths are opened as they are",
        "processing_fpig/decoding_fpig.py",
        'target: Any = f"file:{check_path(os.fspath(source), name)}"',
        "target: Any = os.fspath(source)",
        "tests/test_bad_videos.py::test_protocols_are_refused",
    ),
    Mutation(
        "any size is decoded",
        "processing_fpig/decoding_fpig.py",
        "MAX_PIXELS = 8192 * 4320",
        "MAX_PIXELS = 2**31 - 1",
        "tests/test_bad_videos.py::test_absurd_dimensions_take_no_memory",
    ),
    Mutation(
        "metadata must be UTF-8",
        "processing_fpig/decoding_fpig.py",
        ', metadata_errors="replace"',
        "",
        "tests/test_decoding.py::test_texts_in_another_encoding_do_no_harm",
    ),
    Mutation(
        "resized without antialias",
        "processing_fpig/video_processing_fpig.py",
        'mode="bicubic", antialias=is_crop)',
        'mode="bicubic", antialias=False)',
        "tests/test_video_processing.py::test_crop_by_the_formula",
    ),
    Mutation(
        "resized as floats, which are cut off only at the end",
        "processing_fpig/video_processing_fpig.py",
        'interpolate(channels_first[None], target, mode="bicubic", antialias=is_crop)',
        'interpolate(channels_first[None].float(), target, mode="bicubic", antialias=is_crop)'
        ".round().clamp(0, 255).byte()",
        "tests/test_video_processing.py::test_crop_by_the_formula",
    ),
    Mutation(
        "crop rounded up",
        "processing_fpig/video_processing_fpig.py",
        "(target[0] - size) // 2, (target[1] - size) // 2",
        "-((size - target[0]) // 2), -((size - target[1]) // 2)",
        "tests/test_video_processing.py::test_crop_by_the_formula",
    ),
    Mutation(
        "long side rounded up",
        "processing_fpig/video_processing_fpig.py",
        "(size * height // short, size * width // short)",
        "(-(-size * height // short), -(-size * width // short))",
        "tests/test_video_processing.py::test_crop_by_the_formula",
    ),
    Mutation(
        "normalised by the wrong channels",
        "processing_fpig/video_processing_fpig.py",
        "mean = torch.tensor(self.image_mean).view(3, 1, 1)",
        "mean = torch.tensor(self.image_mean).flip(0).view(3, 1, 1)",
        "tests/test_video_processing.py::test_mean_and_std_are_those_of_the_channels",
    ),
    Mutation(
        "captions are not cut",
        "processing_fpig/processing_fpig.py",
        '"truncation": True',
        '"truncation": False',
        "tests/test_processor.py::test_captions_are_cut_to_fifty_tokens_and_keep_their_end",
    ),
)

PUSHES = (
    Mutation(
        "published without a trial",
        "fpig/publishing.py",
        "check_published(commit_release(folder, target, message, branch), target, expected)",
        "commit_release(folder, target, message, branch)",
        "tests/test_push.py::test_hub_that_changes_the_weights_is_found_out",
    ),
    Mutation(
        "files of the release before stay",
        "fpig/publishing.py",
        "operations = [CommitOperationDelete(path_in_repo=name) for name in stale]",
        "operations = []",
        "tests/test_push.py::test_new_release_takes_the_old_ones_files_away",
    ),
    Mutation(
        "everything in the folder is published",
        "fpig/publishing.py",
        "return [path for path in paths if matches(path, RELEASE_PATTERNS)]",
        "return paths",
        "tests/test_push.py::test_release_files_are_named_by_what_they_are",
    ),
    Mutation(
        "repository of another model overwritten",
        "fpig/publishing.py",
        'if others and model_type != "fpig":',
        'if others and model_type == "none":',
        "tests/test_push.py::test_other_content_on_the_hub_is_not_overwritten",
    ),
    Mutation(
        "no second try",
        "fpig/hub_requests.py",
        "RETRIED_STATUSES = (408, 429, 500, 502, 503, 504)",
        "RETRIED_STATUSES = ()",
        "tests/test_push.py::test_hub_that_is_down_for_a_moment",
    ),
    Mutation(
        "silent Hub waited for",
        "fpig/hub_requests.py",
        "        get_session().timeout = ANSWER_SECONDS",
        "        get_session().timeout = 5.0",
        "tests/test_push.py::test_hub_that_does_not_answer",
    ),
    Mutation(
        "card's example loads a folder that its reader lacks",
        "fpig/publishing.py",
        """text = text.replace(f'("{former}"', f'("{repo_id}"')""",
        "text = str(text)",
        "tests/test_push.py::test_pushed_folder_loads_in_a_fresh_process",
    ),
    Mutation(
        "pickle of the arguments pushed",
        "fpig/hub_checkpoints.py",
        'PRIVATE_FILES = ("training_args.bin",)',
        "PRIVATE_FILES = ()",
        "tests/test_train_push.py::test_commits_tell_nothing_of_the_machine",
    ),
    Mutation(
        "token in every checkpoint's pickle",
        "fpig/stages.py",
        "    stage_args.hub_token = None",
        "    stage_args.hub_token = args.hub_token",
        "tests/test_train_push.py::test_commits_tell_nothing_of_the_machine",
    ),
    Mutation(
        "best checkpoint not pushed with the last",
        "fpig/hub_checkpoints.py",
        "if best.name != checkpoint.name:",
        "if best.name == checkpoint.name:",
        "tests/test_train_push.py::test_killed_run_goes_on_from_the_hub_on_another_machine",
    ),
    Mutation(
        "checkpoints pushed without a card",
        "fpig/hub_checkpoints.py",
        "        self.write_documents(snapshot, progress)\n",
        "        (snapshot / 'settings.yaml').write_text('')\n",
        "tests/test_train_push.py::test_every_commit_loads_in_a_fresh_process",
    ),
)
DEMO = (
    Mutation(
        "the frame that matches least",
        "fpig/index.py",
        "rank_embeds(self.frame_embeds, query_embed)[0][0]",
        "rank_embeds(self.frame_embeds, query_embed)[-1][0]",
        "tests/test_demo.py::test_search_ranks_the_hosts_videos_and_the_visitors_together",
    ),
    Mutation(
        "worst videos first",
        "fpig/search.py",
        "ordered = scores.sort(descending=True, stable=True)",
        "ordered = scores.sort(stable=True)",
        "tests/test_demo.py::test_search_ranks_the_hosts_videos_and_the_visitors_together",
    ),
    Mutation(
        "visitors' videos are not searched",
        "fpig/gallery.py",
        "indexes = [self.index, *brought]",
        "indexes = [self.index]",
        "tests/test_demo.py::test_search_ranks_the_hosts_videos_and_the_visitors_together",
    ),
    Mutation(
        "captions nearest to a frame instead of the pseudo-query",
        "fpig/gallery.py",
        "rank_embeds(self.caption_embeds, video.pseudo_query_embed)",
        "rank_embeds(self.caption_embeds, video.frame_embeds[0])",
        "tests/test_demo.py::test_captions_nearest_to_a_pseudo_query",
    ),
    Mutation(
        "selected patches counted from the class token",
        "fpig/inspection.py",
        "torch.tensor(selected_token_indices) - model.config.num_global_tokens",
        "torch.tensor(selected_token_indices) - 1",
        "tests/test_demo.py::test_selected_patches_are_found_again",
    ),
    Mutation(
        "selected patches drawn column by column",
        "fpig/inspection.py",
        "is_selected[:, 1:].unflatten(1, (grid, grid))",
        "is_selected[:, 1:].unflatten(1, (grid, grid)).transpose(1, 2)",
        "tests/test_demo.py::test_inspected_frames_are_what_the_model_saw",
    ),
    Mutation(
        "videos play from their beginning",
        "fpig/demo_html.py",
        "#t={hit.seconds:.2f}",
        "#t=0.00",
        "tests/test_demo_page.py::test_videos_start_at_their_matched_frame",
    ),
    Mutation(
        "file names are HTML",
        "fpig/demo_html.py",
        "    name = escape(hit.video.path.name)",
        "    name = hit.video.path.name",
        "tests/test_demo.py::test_names_and_captions_are_text_and_no_html",
    ),
    Mutation(
        "any file of the machine is taken for an upload",
        "fpig/demo_page.py",
        "page.has_launched = True",
        "page.has_launched = False",
        "tests/test_demo_page.py::test_nothing_else_of_the_machine_is_served",
    ),
    Mutation(
        "uploads of any size",
        "fpig/demo_page.py",
        "        max_file_size=MAX_UPLOAD_SIZE,\n",
        "",
        "tests/test_demo_page.py::test_two_gigabytes_are_refused",
    ),
    Mutation(
        "an index of another model is searched",
        "fpig/index.py",
        "    if found != fingerprint:",
        "    if not found:",
        "tests/test_index.py::test_bad_indexes_are_errors",
    ),
)
METRIC_SPACE = (
    Mutation(
        "a run's ties counted for the engine",
        "metrics/video_retrieval/run_files.py",
        "np.count_nonzero(scores >= true_score)",
        "np.count_nonzero(scores > true_score) + 1",
        "tests/test_metric_space.py::test_a_whole_run_is_the_matrix",
    ),
    Mutation(
        "ranks of a run from 0",
        "metrics/video_retrieval/run_files.py",
        "np.count_nonzero(scores >= true_score)",
        "np.count_nonzero(scores >= true_score) - 1",
        "tests/test_metric_space.py::test_ranks_of_a_run_by_hand",
    ),
    Mutation(
        "a true video that the run lacks comes after the listed ones",
        "metrics/video_retrieval/run_files.py",
        "ranks, ties = np.full(len(true_videos), np.inf),",
        "ranks, ties = np.array([len(run[topic]) + 1.0 for topic in true_videos]),",
        "tests/test_metric_space.py::test_a_run_that_lacks_true_videos",
    ),
    Mutation(
        "a median that the run can't know",
        "metrics/video_retrieval/app.py",
        '        results.pop("t2v_MdR", None)\n',
        '        results.setdefault("t2v_MdR", float(np.median(ranks.t2v)))\n',
        "tests/test_metric_space.py::test_a_run_that_lacks_true_videos",
    ),
    Mutation(
        "the page forgets the file of video indices",
        "metrics/video_retrieval/app.py",
        "    if indices_path is not None:",
        "    if indices_path is not None and num_captions != num_videos:",
        "tests/test_metric_space.py::test_a_square_matrix_needs_no_indices",
    ),
    Mutation(
        "a .npy header is believed",
        "metrics/video_retrieval/uploads.py",
        " or math.prod(shape) * dtype.itemsize != num_bytes",
        "",
        "tests/test_metric_space.py::test_bad_matrices_are_refused",
    ),
    Mutation(
        "a gzip bomb is unpacked",
        "metrics/video_retrieval/uploads.py",
        "file.readline(left + 1)",
        "file.readline()",
        "tests/test_metric_space.py::test_a_gzip_bomb_is_not_unpacked",
    ),
    Mutation(
        "a message of the page is HTML from a file",
        "metrics/video_retrieval/app.py",
        "{escape(str(error))}",
        "{error}",
        "tests/test_metric_space.py::test_what_comes_from_a_file_is_escaped",
    ),
)
EXPORT = (
    Mutation(
        "ONNX attention ignores its mask",
        "fpig/export.py",
        "op.Where(mask, scores, minus_infinity)",
        "scores",
        "tests/test_export.py::test_text_encoder_is_the_models",
    ),
    Mutation(
        "ONNX selects the worst patches",
        "fpig/export.py",
        "largest=int(descending)",
        "largest=int(not descending)",
        "tests/test_export.py::test_equal_scores_are_selected_in_order_of_position",
    ),
    Mutation(
        "ONNX embeddings not normalised",
        "fpig/export.py",
        "return getattr(self.model, method)(*inputs)",
        "return getattr(self.model, method.replace('encode', 'get') + '_features')(*inputs).pooler_output",
        "tests/test_export.py::test_text_encoder_is_the_models",
    ),
    Mutation(
        "ONNX takes the temporal table from the nearest frame",
        "fpig/export.py",
        'mode="linear"',
        'mode="nearest"',
        "tests/test_export.py::test_video_encoder_is_the_models",
    ),
    Mutation(
        "exported files not compared with torch",
        "fpig/export.py",
        "difference = measure_difference(model, file, partial_folder / file.name)",
        "difference = 0.0",
        "tests/test_export.py::test_a_file_that_differs_from_torch_is_refused",
    ),
)
NEIGHBOURS = (
    Mutation(
        "sentence-transformers leaves features as they are",
        "fpig/sentence_transformers_files.py",
        '"module_output_name": "sentence_embedding",\n    },\n    # Without',
        '"module_output_name": "normalized",\n    },\n    # Without',
        "tests/test_sentence_transformers.py::test_videos",
    ),
    Mutation(
        "sentence-transformers takes a video's pseudo-query for the video",
        "fpig/sentence_transformers_files.py",
        '"get_video_features", "method_output_name": "pooler_output"',
        '"get_video_features", "method_output_name": "pseudo_query"',
        "tests/test_sentence_transformers.py::test_videos",
    ),
    Mutation(
        "sentence-transformers' limit is not obeyed",
        "processing_fpig/processing_fpig.py",
        "limit = min(self.max_length, self.tokenizer.model_max_length)",
        "limit = self.max_length",
        "tests/test_sentence_transformers.py::test_captions_are_cut_where_the_user_says",
    ),
    Mutation(
        "checkpoints on the Hub are nothing for sentence-transformers",
        "train.py",
        "    write_sentence_transformers_files(folder)\n",
        "",
        "tests/test_train_push.py::test_every_commit_loads_in_a_fresh_process",
    ),
    Mutation(
        "MTEB is told of the video before the caption's",
        "examples/evaluate_with_mteb.py",
        "relevant[query_id] = {record.video_id: 1}",
        "relevant[query_id] = {records[records.index(record) - 1].video_id: 1}",
        "tests/test_examples.py::test_mteb_finds_what_we_find",
    ),
)
AVS = (
    Mutation(
        "ad-hoc search: equals from A to Z",
        "fpig/avs_scoring.py",
        "key=lambda pair: (pair[1], pair[0]), reverse=True)",
        "key=lambda pair: (-pair[1], pair[0]))",
        "tests/test_avs.py::test_twelve_digits_of_the_official_program",
    ),
    Mutation(
        "ad-hoc search: a run is not cut at 1000",
        "fpig/avs_scoring.py",
        "enumerate(order_shots(topic, shots, MAX_SHOTS), start=1)",
        "enumerate(order_shots(topic, shots, len(shots)), start=1)",
        "tests/test_avs.py::test_twelve_digits_of_the_official_program",
    ),
    Mutation(
        "ad-hoc search: a run is cut before it is sorted",
        "fpig/avs_scoring.py",
        "return sorted(shots, key=",
        "return sorted(shots[:depth], key=",
        "tests/test_avs.py::test_twelve_digits_of_the_official_program",
    ),
    Mutation(
        "ad-hoc search: a judged shot stands for itself alone",
        "fpig/avs_scoring.py",
        "{stratum: pooled[stratum] / judged[stratum] for stratum in judged}",
        "dict.fromkeys(judged, 1.0)",
        "tests/test_avs.py::test_twelve_digits_of_the_official_program",
    ),
    Mutation(
        "ad-hoc search: all strata are one",
        "fpig/avs_scoring.py",
        "            stratum = judgement.stratum\n",
        "            stratum = max(weights)\n",
        "tests/test_avs.py::test_scores_are_the_definition",
    ),
    Mutation(
        "ad-hoc search: divided by all relevant shots, however many",
        "fpig/avs_scoring.py",
        "sum_precisions / min(num_relevant, MAX_SHOTS)",
        "sum_precisions / num_relevant",
        "tests/test_avs.py::test_twelve_digits_of_the_official_program",
    ),
    Mutation(
        "ad-hoc search: no epsilon for relevant shots",
        "fpig/avs_scoring.py",
        "RELEVANT_EPSILON, JUDGED_EPSILON = 1e-5, 3e-5",
        "RELEVANT_EPSILON, JUDGED_EPSILON = 0.0, 3e-5",
        "tests/test_avs.py::test_twelve_digits_of_the_official_program",
    ),
    Mutation(
        "ad-hoc search: both epsilons alike",
        "fpig/avs_scoring.py",
        "RELEVANT_EPSILON, JUDGED_EPSILON = 1e-5, 3e-5",
        "RELEVANT_EPSILON, JUDGED_EPSILON = 1e-5, 1e-5",
        "tests/test_avs.py::test_twelve_digits_of_the_official_program",
    ),
    Mutation(
        "ad-hoc search: the shot itself is among those above it",
        "fpig/avs_scoring.py",
        "sum_precisions += weights[stratum] * (1 + found) / rank\n                relevant[stratum] += 1\n",
        "relevant[stratum] += 1\n"
        "                seen, known = Counter(pooled), Counter(judged)\n"
        "                seen[stratum] += 1\n"
        "                known[stratum] += 1\n"
        "                found = sum(seen[s] * (relevant[s] + 1e-5) / (known[s] + 3e-5) for s in seen)\n"
        "                sum_precisions += weights[stratum] * (1 + found) / rank\n",
        "tests/test_avs.py::test_twelve_digits_of_the_official_program",
    ),
    Mutation(
        "ad-hoc search: shots that are not judged count as judged",
        "fpig/avs_scoring.py",
        "judged[stratum] += judgement.relevance >= 0",
        "judged[stratum] += 1",
        "tests/test_avs.py::test_twelve_digits_of_the_official_program",
    ),
    Mutation(
        "ad-hoc search: shots outside the pool take no rank",
        "fpig/avs_scoring.py",
        "enumerate(order_shots(topic, shots, MAX_SHOTS), start=1)",
        "enumerate([s for s in order_shots(topic, shots, MAX_SHOTS) if s[0] in judgements], start=1)",
        "tests/test_avs.py::test_twelve_digits_of_the_official_program",
    ),
    Mutation(
        "ad-hoc search: grades above 1 are not relevant",
        "fpig/avs_scoring.py",
        "            if judgement.relevance > 0:\n",
        "            if judgement.relevance == 1:\n",
        "tests/test_avs.py::test_scores_are_the_definition",
    ),
    Mutation(
        "ad-hoc search: precision over the shots listed, not over the cut-off",
        "fpig/avs_scoring.py",
        "found_at[min(cutoff, len(found_at) - 1)] / cutoff",
        "found_at[min(cutoff, len(found_at) - 1)] / min(cutoff, len(found_at) - 1 or 1)",
        "tests/test_avs.py::test_twelve_digits_of_the_official_program",
    ),
    Mutation(
        "ad-hoc search: missing topics are dropped silently",
        "fpig/avs_scoring.py",
        '    dropped = set(missing) if missing_topics == "drop" else set()\n',
        "    dropped = set(missing)\n",
        "tests/test_avs.py::test_missing_topics",
    ),
    Mutation(
        "ad-hoc search: missing topics are no error",
        "fpig/avs_scoring.py",
        'if missing and missing_topics == "raise":',
        'if missing and missing_topics == "never":',
        "tests/test_avs.py::test_missing_topics",
    ),
    Mutation(
        "ad-hoc search: nothing in the table says that topics were dropped",
        "fpig/avs.py",
        'if options.missing_topics == "drop" and results.missing_topics:',
        "if not results.topics:",
        "tests/test_avs.py::test_command_prints_what_the_official_program_prints",
    ),
    Mutation(
        "ad-hoc search: relevant shots of missing topics are not in the sum",
        "fpig/avs_scoring.py",
        "sum(count_relevant(judgements) for judgements in qrels.values())",
        'sum(scores["inum_rel"] for scores in topics.values())',
        "tests/test_avs.py::test_what_the_official_program_prints",
    ),
    Mutation(
        "ad-hoc search: the sum of shots is not cut",
        "fpig/avs_scoring.py",
        'min(scores["num_ret"], MAX_SHOTS) for scores',
        'scores["num_ret"] for scores',
        "tests/test_avs.py::test_what_the_official_program_prints",
    ),
    Mutation(
        "ad-hoc search: one topic with 1000 added is enough",
        "fpig/avs_scoring.py",
        "if num_found and num_found == len(run):",
        "if num_found:",
        "tests/test_avs.py::test_topics_of_the_participants_are_found_in_nists_judgements",
    ),
    Mutation(
        "ad-hoc search: 1000 is added beside topics in common",
        "fpig/avs_scoring.py",
        "if any(topic in qrels for topic in run):",
        "if run and all(topic in qrels for topic in run):",
        "tests/test_avs.py::test_topics_of_the_participants_are_found_in_nists_judgements",
    ),
    Mutation(
        "ad-hoc search: the rank column counts",
        "fpig/avs_files.py",
        "for number, (topic, _, shot, _, text, _) in read_columns(path, RUN_COLUMNS):\n",
        "for number, (topic, _, shot, text, _, _) in read_columns(path, RUN_COLUMNS):\n"
        '        text = f"-{text}"\n',
        "tests/test_avs.py::test_what_the_official_program_prints",
    ),
    Mutation(
        "ad-hoc search: NaN is a score",
        "fpig/avs_files.py",
        "            score = math.nan\n        if math.isnan(score):\n",
        "            score = math.nan\n        if math.isnan(score) and text != 'nan':\n",
        "tests/test_avs.py::test_damaged_files_are_named",
    ),
    Mutation(
        "ad-hoc search: a shot's last line counts",
        "fpig/avs_files.py",
        "    if shot in known:\n",
        "    if not shot:\n",
        "tests/test_avs.py::test_damaged_files_are_named",
    ),
    Mutation(
        "ad-hoc search: scores are written with six digits",
        "fpig/avs_files.py",
        "{float(score)!r} {run_id}",
        "{float(score):.6f} {run_id}",
        "tests/test_avs.py::test_written_runs_keep_scores_ties_and_order",
    ),
    Mutation(
        "ad-hoc search: a run is written in place",
        "fpig/avs_files.py",
        'partial = path.with_name(f".{path.name}.partial")',
        "partial = path",
        "tests/test_avs.py::test_a_stopped_writer_leaves_the_old_run",
    ),
    Mutation(
        "ad-hoc search: shots are ranked with equals in the gallery's order",
        "fpig/avs_ranking.py",
        "sorted(range(len(shot_ids)), key=shot_ids.__getitem__, reverse=True)",
        "list(range(len(shot_ids)))",
        "tests/test_avs.py::test_shots_are_ranked_block_by_block",
    ),
    Mutation(
        "ad-hoc search: torch's top k decides between equals",
        "fpig/avs_ranking.py",
        "places = scores.argsort(dim=1, descending=True, stable=True)[:, :depth]",
        "places = scores.topk(min(depth, scores.shape[1]), dim=1).indices",
        "tests/test_avs.py::test_shots_are_ranked_block_by_block",
    ),
    Mutation(
        "ad-hoc search: later blocks win ties",
        "fpig/avs_ranking.py",
        "        scores = torch.cat([best_scores, scores], dim=1)\n"
        "        candidates = torch.cat([best_shots, shots.expand(len(topics), -1)], dim=1)\n",
        "        scores = torch.cat([scores, best_scores], dim=1)\n"
        "        candidates = torch.cat([shots.expand(len(topics), -1), best_shots], dim=1)\n",
        "tests/test_avs.py::test_shots_are_ranked_block_by_block",
    ),
    Mutation(
        "ad-hoc search: equal shots get scores that rounding makes unequal",
        "fpig/avs_ranking.py",
        "(topic_embeds @ shot_embeds[shots].detach().double().T).float()",
        "(topic_embeds.float() @ shot_embeds[shots].detach().float().T).float()",
        "tests/test_avs.py::test_shots_are_ranked_block_by_block",
    ),
    Mutation(
        "ad-hoc search: --help loads torch",
        "fpig/avs.py",
        "from fpig.avs_files import read_qrels, read_run\n",
        "import torch, transformers.models.clip.modeling_clip\n"
        "from fpig.avs_files import read_qrels, read_run\n",
        "tests/test_avs.py::test_help_is_quick",
    ),
)

ANNOTATIONS = (
    Mutation(
        "a video's captions in another order",
        "fpig/annotations/msrvtt.py",
        'captions.setdefault(sentence["video_id"], []).append(sentence["caption"])',
        'captions.setdefault(sentence["video_id"], []).insert(0, sentence["caption"])',
        "tests/test_annotations.py::test_msrvtt_1k_training_videos_have_all_captions_of_the_json",
    ),
    Mutation(
        "MSRVTT-3k's ranges off by one",
        "fpig/annotations/msrvtt.py",
        '"validation": range(6513, 7010), "test": range(7010, 10_000)',
        '"validation": range(6513, 7011), "test": range(7011, 10_000)',
        "tests/test_annotations.py::test_msrvtt_3k_is_split_by_numbers",
    ),
    Mutation(
        "only a video's first row of a table counts",
        "fpig/annotations/msrvtt.py",
        'captions.setdefault(row["video_id"], []).append(row["sentence"])',
        'captions.setdefault(row["video_id"], [row["sentence"]])',
        "tests/test_annotations.py::test_msrvtt_3k_of_tables_and_jsonl",
    ),
    Mutation(
        "half of the official form wins over the whole of another",
        "fpig/annotations/msrvtt.py",
        "    if list_path and sentences_path:\n",
        "    if list_path:\n",
        "tests/test_annotations.py::test_official_form_wins_where_it_is_whole",
    ),
    Mutation(
        "words of MSVD's pickle run together",
        "fpig/annotations/msvd.py",
        '" ".join(words)',
        '"".join(words)',
        "tests/test_annotations.py::test_msvd_is_the_same_as_pickle_and_as_json",
    ),
    Mutation(
        "unpickler looks up what the file names",
        "fpig/annotations/msvd.py",
        'raise pickle.UnpicklingError(f"it names {module}.{name}, and only plain containers are read")',
        "return super().find_class(module, name)",
        "tests/test_annotations_pickles.py::test_malicious_pickles_run_nothing",
    ),
    Mutation(
        "VATEX's Chinese captions",
        "fpig/annotations/vatex.py",
        'item.get("videoID"), item.get("enCap")',
        'item.get("videoID"), item.get("chCap")',
        "tests/test_annotations.py::test_vatex_training_needs_no_list_but_heeds_one",
    ),
    Mutation(
        "DiDeMo's descriptions in another order",
        "fpig/annotations/didemo.py",
        '(" ".join(texts),)',
        '(" ".join(sorted(texts)),)',
        "tests/test_annotations.py::test_didemo_paragraphs_are_those_of_other_code",
    ),
    Mutation(
        "a repeated key of a json takes the captions of the first",
        "fpig/annotations/files.py",
        "        if len(made) < len(pairs):\n",
        "        if len(made) > len(pairs):\n",
        "tests/test_annotations_refused.py::test_doubled_ids",
    ),
    Mutation(
        "fewer videos than published pass",
        "fpig/annotations/published.py",
        "if len(videos) != published.num_videos:",
        "if len(videos) > published.num_videos:",
        "tests/test_annotations_refused.py::test_other_sizes_than_published",
    ),
    Mutation(
        "fewer captions than published pass",
        "fpig/annotations/published.py",
        "if number < lowest or (highest",
        "if (highest",
        "tests/test_annotations_refused.py::test_other_numbers_of_captions_than_published",
    ),
    Mutation(
        "test videos may be trained on",
        "fpig/annotations/published.py",
        "for problem in problems + find_leaks(videos_by_split):",
        "for problem in problems:",
        "tests/test_annotations_refused.py::test_video_in_two_splits",
    ),
    Mutation(
        "checksum of ids depends on their order",
        "fpig/annotations/published.py",
        '"\\n".join(sorted(video_ids))',
        '"\\n".join(video_ids)',
        "tests/test_annotations.py::test_checksum_of_ids_is_of_the_set",
    ),
    Mutation(
        "checksum of captions is blind to their order",
        "fpig/annotations/published.py",
        "encode([video_id, *captions])",
        "encode([video_id, *sorted(captions)])",
        "tests/test_annotations.py::test_checksum_of_captions_sees_their_order_and_their_video",
    ),
    Mutation(
        "videos are found by their names without the suffix alone",
        "fpig/annotations/videos.py",
        "stem if name not in wanted and suffix.lower() in VIDEO_SUFFIXES else name",
        "stem",
        "tests/test_annotations_videos.py::test_files_are_found_by_whole_names",
    ),
    Mutation(
        "of two files for one video the first is taken",
        "fpig/datasets.py",
        "        raise ValueError(doubled[0])\n",
        "        pass\n",
        "tests/test_annotations_loading.py::test_two_files_of_one_video",
    ),
    Mutation(
        "some missing videos are dropped without a word",
        "fpig/datasets.py",
        "    if absent:\n",
        "    if len(absent) == len(videos):\n",
        "tests/test_annotations_loading.py::test_missing_videos_are_counted_and_named",
    ),
    Mutation(
        "skipping decodes nothing",
        "fpig/datasets.py",
        "find_unreadable({key: video for key, video in videos.items() if key not in reasons})",
        "find_unreadable({})",
        "tests/test_annotations_loading.py::test_skipped_videos_are_logged_and_listed",
    ),
    Mutation(
        "skipped videos are not logged",
        "fpig/datasets.py",
        "    logger.warning(\n",
        "    logger.debug(\n",
        "tests/test_annotations_loading.py::test_skipped_videos_are_logged_and_listed",
    ),
    Mutation(
        "wrong sizes are forgiven where videos may be missing",
        "fpig/annotations/check.py",
        'return not report["problems"] and (has_all or on_missing == "skip")',
        'return on_missing == "skip" or (has_all and not report["problems"])',
        "tests/test_annotations_check.py::test_other_sizes_are_told_beside_what_is_there",
    ),
    Mutation(
        "missing videos are no failure",
        "fpig/annotations/check.py",
        'return not report["problems"] and (has_all or on_missing == "skip")',
        'return not report["problems"]',
        "tests/test_annotations_check.py::test_msvd_with_every_video_decoded",
    ),
    Mutation(
        "frame 10 before frame 2",
        "processing_fpig/frame_folder_fpig.py",
        "sorted(names, key=make_natural_key)",
        "sorted(names)",
        "tests/test_frame_folder.py::test_numbers_in_names_are_sorted_by_value",
    ),
    Mutation(
        "the lost part of a picture is grey",
        "processing_fpig/frame_folder_fpig.py",
        '"err_detect": "explode", ',
        "",
        "tests/test_frame_folder.py::test_damaged_pictures_are_named",
    ),
    Mutation(
        "pictures of another size are stretched without a word",
        "processing_fpig/frame_folder_fpig.py",
        "if picture.shape[:2] != first_size:",
        "if picture.size == 0:",
        "tests/test_frame_folder.py::test_pictures_of_several_sizes_are_named",
    ),
)

SINGLE_TOWER_AND_SEARCH = (
    Mutation(
        "every query sees a video as the first query does",
        "fpig/single_tower.py",
        "features = model.interaction.attend(queries, keys, values)",
        "features = model.interaction.attend(queries[:, :1], keys, values).expand(-1, queries.shape[1], -1)",
        "tests/test_single_tower.py::test_scores_are_those_of_single_pairs",
    ),
    Mutation(
        "the second stage's ranks count the first stage's scores",
        "fpig/single_tower.py",
        "(pair_scores >= true_scores).sum(dim=1)",
        "(scores.gather(1, best_videos) >= scores.gather(1, true_videos)).sum(dim=1)",
        "tests/test_single_tower.py::test_two_stages_are_two_sorts",
    ),
    Mutation(
        "ties of the second stage in the model's favour",
        "fpig/single_tower.py",
        "(pair_scores >= true_scores).sum(dim=1)",
        "((pair_scores > true_scores).sum(dim=1) + 1)",
        "tests/test_single_tower.py::test_ties_count_against_the_model_in_both_stages",
    ),
    Mutation(
        "a true video is put into the top that it did not reach",
        "fpig/single_tower.py",
        "np.flatnonzero(ranks <= num_reranked)",
        "np.flatnonzero(ranks <= len(video_embeds))",
        "tests/test_single_tower.py::test_two_stages_are_two_sorts",
    ),
    Mutation(
        "queries of a block in the caller's order, not the videos'",
        "fpig/single_tower.py",
        "queries = text_features[torch.from_numpy(order)]",
        "queries = text_features",
        "tests/test_single_tower.py::test_ranks_are_those_of_the_scores",
    ),
    Mutation(
        "pseudo-query alone is still pooled",
        "modeling_fpig/modeling_fpig.py",
        "return pseudo_query, pseudo_query",
        "return summary.mean(dim=1), pseudo_query",
        "tests/test_modeling.py::test_without_the_interaction_the_pseudo_query_is_the_embedding",
    ),
    Mutation(
        "real queries score the class token's embedding",
        "fpig/extra_measurements.py",
        'measured["query_interaction_metrics"] = summarize_retrieval(ranks)',
        'measured["query_interaction_metrics"] = measured.get("class_token_metrics", {})',
        "tests/test_evaluation.py::test_extras_are_those_of_their_functions",
    ),
    Mutation(
        "re-scoring becomes the headline",
        "fpig/evaluation.py",
        "        metrics=summarize_retrieval(ranks),\n",
        '        metrics=measured.get("dual_softmax_metrics") or summarize_retrieval(ranks),\n',
        "tests/test_evaluation.py::test_extras_are_those_of_their_functions",
    ),
    Mutation(
        "embeddings of another model are taken for this one's",
        "fpig/avs_search.py",
        'f"{fingerprint_model(model, processor)}-{fingerprint_videos(records)}"',
        "fingerprint_videos(records)",
        "tests/test_avs_search.py::test_embeddings_of_others_are_not_taken",
    ),
    Mutation(
        "embeddings of another order of the shots are taken",
        "fpig/avs_search.py",
        'f"{fingerprint_model(model, processor)}-{fingerprint_videos(records)}"',
        'f"{fingerprint_model(model, processor)}-{task.shots.id_checksum}"',
        "tests/test_avs_search.py::test_embeddings_of_others_are_not_taken",
    ),
    Mutation(
        "a NaN of the second stage is the best rank",
        "fpig/single_tower.py",
        "        check_block(pair_scores.numpy())\n",
        "",
        "tests/test_single_tower.py::test_nan_is_refused_in_both",
    ),
    Mutation(
        "a damaged part ends the search",
        "fpig/avs_search.py",
        "except (FileNotFoundError, SafetensorError, KeyError):",
        "except FileNotFoundError:",
        "tests/test_avs_search.py::test_shots_are_embedded_once",
    ),
    Mutation(
        "topics of any year",
        "fpig/avs_files.py",
        "    if list(topics) != expected:\n",
        "    if not topics:\n",
        "tests/test_avs_search.py::test_topics_of_another_year_are_refused",
    ),
    Mutation(
        "judged topics that the run lacks are found after the embedding",
        "fpig/avs_search.py",
        "        list_missing(matched, qrels, missing_topics)\n",
        "        pass\n",
        "tests/test_avs_search.py::test_more_judged_topics_are_told_before_anything_is_embedded",
    ),
    Mutation(
        "judgements of other topics pass the check",
        "fpig/annotations/check.py",
        "    other = [topic for topic in qrels if topic not in expected]\n",
        "    other = []\n",
        "tests/test_annotations_check.py::test_judgements_of_other_topics_are_told",
    ),
    Mutation(
        "baselines train less than F-Pig",
        "benchmarks/shapes_runs.py",
        'f"--num_train_epochs={EPOCHS_AFTER_TOWERS}"',
        "f\"--num_train_epochs={CONFIG['num_train_epochs']}\"",
        "tests/test_benchmarks.py::test_every_run_trains_equally_long_and_changes_one_thing",
    ),
    Mutation(
        "every run trains towers of its own",
        "benchmarks/shapes_runs.py",
        "if stages_dir == target or (target",
        "if stages_dir or (target",
        "tests/test_benchmarks.py::test_runs_of_a_seed_share_their_towers_and_are_not_repeated",
    ),
)

RANKING_AND_RESCORING = (
    Mutation(
        "ties counted only where all scores are ties",
        "metrics/video_retrieval/ranking.py",
        "if np.any(rows == limits) else counted",
        "if np.all(rows == limits) else counted",
        "tests/test_ranking.py::test_ranks_are_the_definition_with_ties_ragged_captions_and_distractors",
    ),
    Mutation(
        "a video's captions on both sides of a cut count as two videos",
        "metrics/video_retrieval/ranking.py",
        "            self.v2t -= first_hits & self.open_hits\n",
        "",
        "tests/test_ranking.py::test_rows_compared_at_once_do_not_matter",
    ),
    Mutation(
        "a video that fills its rows forgets its hits before them",
        "metrics/video_retrieval/ranking.py",
        "last_hits = last_hits | self.open_hits",
        "last_hits = last_hits.copy()",
        "tests/test_ranking.py::test_rows_compared_at_once_do_not_matter",
    ),
    Mutation(
        "hits of the video before the cut taken for the next video's",
        "metrics/video_retrieval/ranking.py",
        "if captions.start and self.labels[captions.start - 1] == self.labels[captions.start]:",
        "if captions.start:",
        "tests/test_ranking.py::test_rows_compared_at_once_do_not_matter",
    ),
    Mutation(
        "more rows than a byte counts",
        "metrics/video_retrieval/ranking.py",
        "ROWS_PER_COMPARISON = 205",
        "ROWS_PER_COMPARISON = 300",
        "tests/test_ranking.py::test_constant_model_scores_nothing",
    ),
    Mutation(
        "NaN looked for in the first captions alone",
        "metrics/video_retrieval/ranking.py",
        "            check_block(block)\n",
        "            if captions.start == 0:\n                check_block(block)\n",
        "tests/test_ranking.py::test_a_nan_is_found_wherever_it_is",
    ),
    Mutation(
        "columns of a strip of videos counted into the first strip",
        "metrics/video_retrieval/ranking.py",
        "counts.v2t[:, videos], counts.pool[:, videos] = part.v2t, part.pool",
        "counts.v2t[:, : part.v2t.shape[1]], counts.pool[:, videos] = part.v2t, part.pool",
        "tests/test_ranking.py::test_block_size_and_caption_order_do_not_matter",
    ),
    Mutation(
        "ranking leaves threads that start later with one each",
        "metrics/video_retrieval/embedding_ranking.py",
        "        torch.set_num_threads(num_threads)  #",
        "        pass  #",
        "tests/test_ranking.py::test_threads_that_start_later_have_torchs_number_of_threads",
    ),
    Mutation(
        "dual softmax over the videos of a caption",
        "metrics/video_retrieval/rescoring.py",
        "np.exp(temperature * scores - log_sums)",
        "np.exp(temperature * scores - np.logaddexp.reduce(temperature * scores, axis=1, keepdims=True))",
        "tests/test_rescoring.py::test_dual_softmax_is_clip_vips",
    ),
    Mutation(
        "softmax alone, not times the scores",
        "metrics/video_retrieval/rescoring.py",
        "return scores * np.exp(",
        "return np.exp(",
        "tests/test_rescoring.py::test_dual_softmax_is_clip_vips",
    ),
    Mutation(
        "log of sums without taking out the highest",
        "metrics/video_retrieval/rescoring.py",
        "block_sums = highest + np.log(np.exp(exponents - highest).sum(axis=0))",
        "block_sums = np.log(np.exp(exponents).sum(axis=0))",
        "tests/test_rescoring.py::test_dual_softmax_of_scores_whose_exponentials_overflow",
    ),
    Mutation(
        "query bank without taking out the highest",
        "metrics/video_retrieval/rescoring.py",
        "block_sums = highest + np.log(np.exp(exponents - highest).sum(axis=0))",
        "block_sums = np.log(np.sum(np.exp(exponents), axis=0))",
        "tests/test_rescoring.py::test_query_bank_by_hand",
    ),
    Mutation(
        "only the last block of captions in the sums",
        "metrics/video_retrieval/rescoring.py",
        "log_sums = np.logaddexp(log_sums, block_sums)",
        "log_sums = block_sums",
        "tests/test_rescoring.py::test_dual_softmax_is_its_definition_in_blocks_of_any_size",
    ),
    Mutation(
        "dual softmax in float32, where small ones are 0",
        "metrics/video_retrieval/rescoring.py",
        "    return scores * np.exp(temperature * scores - log_sums)",
        "    return (scores * np.exp(temperature * scores - log_sums)).astype(np.float32)",
        "tests/test_rescoring.py::test_scores_far_below_the_highest_are_no_ties",
    ),
    Mutation(
        "query bank re-scores every caption",
        "metrics/video_retrieval/rescoring.py",
        "is_rescored = is_hub[find_best_videos(products)]",
        "is_rescored = np.ones(len(texts), bool)",
        "tests/test_rescoring.py::test_query_bank_by_hand",
    ),
    Mutation(
        "query bank re-scores where the best video is no hub",
        "metrics/video_retrieval/rescoring.py",
        "is_rescored = is_hub[find_best_videos(products)]",
        "is_rescored = ~is_hub[find_best_videos(products)]",
        "tests/test_rescoring.py::test_query_bank_by_hand",
    ),
    Mutation(
        "hubs found by the tested captions, not by the bank",
        "metrics/video_retrieval/rescoring.py",
        "is_hub[find_best_videos(bank_products)] = True",
        "is_hub[find_best_videos(BlockProducts(texts, videos, 64, 64))] = True",
        "tests/test_rescoring.py::test_query_bank_by_hand",
    ),
    Mutation(
        "query bank's sums over the tested captions",
        "metrics/video_retrieval/rescoring.py",
        "sum_exponentials(bank_products, beta) / beta",
        "sum_exponentials(BlockProducts(texts, videos, 64, 64), beta) / beta",
        "tests/test_rescoring.py::test_query_bank_is_its_definition_in_blocks_of_any_size",
    ),
    Mutation(
        "query bank's logarithm not divided by beta",
        "metrics/video_retrieval/rescoring.py",
        "sum_exponentials(bank_products, beta) / beta",
        "sum_exponentials(bank_products, beta)",
        "tests/test_rescoring.py::test_query_bank_by_hand",
    ),
    Mutation(
        "of equal best videos in two blocks the last counts",
        "metrics/video_retrieval/rescoring.py",
        "is_better = scores > best_scores",
        "is_better = scores >= best_scores",
        "tests/test_rescoring.py::test_of_equal_best_videos_the_first_counts",
    ),
    Mutation(
        "re-scored captions in the order of videos",
        "metrics/video_retrieval/rescoring.py",
        "is_rescored_in_callers_order[order] = is_rescored",
        "is_rescored_in_callers_order[:] = is_rescored",
        "tests/test_rescoring.py::test_query_bank_is_its_definition_in_blocks_of_any_size",
    ),
    Mutation(
        "a bank with one NaN goes through",
        "metrics/video_retrieval/rescoring.py",
        "    if num_nans:\n",
        "    if num_nans > 1:\n",
        "tests/test_rescoring.py::test_bad_banks_are_refused",
    ),
    Mutation(
        "temperature of infinity goes through",
        "metrics/video_retrieval/rescoring.py",
        "if not 0 < value < math.inf:",
        "if not value > 0:",
        "tests/test_rescoring.py::test_bad_temperatures_are_refused",
    ),
)

CACHED_GRADIENTS = (
    Mutation(
        "chunks' gradients never averaged over the processes",
        "fpig/trainer.py",
        "with nullcontext() if is_last else self.accelerator.no_sync(model):",
        "with self.accelerator.no_sync(model):",
        "tests/test_cached_gradients.py::test_gradients_of_two_processes_equal_the_joint_batchs",
    ),
    Mutation(
        "FSDP averages the gradients of every accumulated batch of chunks",
        "fpig/trainer.py",
        "chunk is chunks[-1] and self.accelerator.sync_gradients",
        "chunk is chunks[-1]",
        "tests/test_cached_gradients.py::test_gradients_of_two_processes_equal_the_joint_batchs",
    ),
    Mutation(
        "batch never cut into chunks",
        "fpig/trainer.py",
        "if chunk_size is None or chunk_size >= len(inputs",
        "if chunk_size is None or chunk_size <= len(inputs",
        "tests/test_cached_gradients.py::test_gradients_equal_the_joint_batchs",
    ),
    Mutation(
        "accumulated chunks not divided by the number of batches",
        "fpig/trainer.py",
        "self.compute_joint_loss(embeds, video_ids) / self.current_gradient_accumulation_steps",
        "self.compute_joint_loss(embeds, video_ids)",
        "tests/test_cached_gradients.py::test_gradients_equal_the_joint_batchs",
    ),
    Mutation(
        "temperature without a gradient where there are chunks",
        "fpig/cached_gradients.py",
        "return chunks, JointEmbeds(*joined, logit_scales[-1])",
        "return chunks, JointEmbeds(*joined, logit_scales[-1].detach())",
        "tests/test_cached_gradients.py::test_gradients_equal_the_joint_batchs",
    ),
    Mutation(
        "another dropout when a chunk is embedded again",
        "fpig/cached_gradients.py",
        "torch.set_rng_state(self.cpu_state)",
        "pass",
        "tests/test_cached_gradients.py::test_dropout_is_the_same_when_a_chunk_is_embedded_again",
    ),
    Mutation(
        "chunks embedded with a graph that stays",
        "fpig/cached_gradients.py",
        "with torch.no_grad():",
        "with torch.enable_grad():",
        "tests/test_cached_gradients.py::test_chunks_without_a_graph_keep_nothing_for_the_backward_pass",
    ),
    Mutation(
        "unequal batches noticed by the smaller one alone",
        "fpig/distributed.py",
        "if (sizes != len(tensor)).any():",
        "if (sizes > len(tensor)).any():",
        "tests/test_distributed.py::test_unequal_batches_are_refused_in_every_process",
    ),
    Mutation(
        "chunks of no video go through",
        "fpig/training_args.py",
        "self.embed_batch_size is not None and self.embed_batch_size < 1",
        "self.embed_batch_size is not None and self.embed_batch_size < 0",
        "tests/test_training_args.py::test_bad_values_on_the_command_line_are_refused",
    ),
)

SEVERAL_PROCESSES = (
    Mutation(
        "processes connect when the first already waits for their shares",
        "fpig/sharing.py",
        "    connect_cpus()\n    return state",
        "    return state",
        "tests/test_distributed.py::test_process_does_not_wait_for_one_that_has_died",
    ),
    Mutation(
        "a checkpoint's state does not wait for the other processes",
        "fpig/checkpoints.py",
        "        self.accelerator.wait_for_everyone()",
        "        pass",
        "tests/test_crash.py::test_several_processes_killed_in_a_save_go_on_to_the_same_end",
    ),
    Mutation(
        "half a checkpoint stays beside the whole ones",
        "fpig/stages.py",
        "            shutil.rmtree(folder)",
        "            pass",
        "tests/test_crash.py::test_what_a_kill_cut_short_is_cleared_away",
    ),
    Mutation(
        "full disk ends in a library's own error",
        "fpig/checkpoints.py",
        'FAILED_WRITES = ("inline_container", "(os error ")',
        'FAILED_WRITES = ("inline_container",)',
        "tests/test_crash.py::test_full_disk_is_told_and_the_last_checkpoint_is_whole",
    ),
    Mutation(
        "FSDP validates with the part of the weights that a process has",
        "fpig/checkpoints.py",
        "        if not self.is_fsdp_enabled:\n            return super().evaluate",
        "        if True:\n            return super().evaluate",
        "tests/test_several_processes.py::test_sharded_run_releases_the_best_of_its_validated_checkpoints",
    ),
    Mutation(
        "checkpoints of FSDP hold torch's code",
        "fpig/checkpoints.py",
        "        if not self.is_fsdp_enabled:\n            super()._save(",
        "        if True:\n            super()._save(",
        "tests/test_crash.py::test_several_processes_killed_in_a_save_go_on_to_the_same_end",
    ),
    Mutation(
        "videos dealt out one by one instead of in batches",
        "fpig/sharing.py",
        "index // batch_size % num_processes == rank",
        "index % num_processes == rank",
        "tests/test_several_processes.py::test_processes_do_together_what_one_does",
    ),
    Mutation(
        "an unreadable video raised in the first process alone",
        "fpig/sharing.py",
        "            outcome = [error]",
        "            raise error",
        "tests/test_several_processes.py::test_processes_do_together_what_one_does",
    ),
    Mutation(
        "shares joined process by process",
        "fpig/sharing.py",
        "for batches in rounds for batch in batches if",
        "for batches in shares for batch in batches if",
        "tests/test_several_processes.py::test_processes_do_together_what_one_does",
    ),
    Mutation(
        "unreadable video named by its place in the share",
        "fpig/extra_measurements.py",
        "own_errors = {share[index]: error",
        "own_errors = {index: error",
        "tests/test_several_processes.py::test_processes_do_together_what_one_does",
    ),
    Mutation(
        "every process tells and writes the evaluation",
        "eval.py",
        "if not processes.is_main_process:",
        "if False:",
        "tests/test_several_processes.py::test_eval_script_measures_in_several_processes_what_it_does_in_one",
    ),
)

FORWARD_COST = (
    Mutation(
        "attention by its definition where sdpa is asked for",
        "modeling_fpig/transformer_fpig.py",
        "self.config._attn_implementation, eager_attention_forward\n        )",
        '"eager", eager_attention_forward\n        )',
        "tests/test_forward_memory.py::test_no_attention_map_but_the_class_tokens_row",
    ),
    Mutation(
        "the attention of all tokens for the class token's row",
        "modeling_fpig/video_fpig.py",
        "self.q_proj(hidden_states[:, :1]))  # [B, H, 1, d]\n        key = self.split_heads(self.k_proj("
        "hidden_states))\n        scores = query @ key.transpose(-1, -2) * self.scaling",
        "self.q_proj(hidden_states))\n        key = self.split_heads(self.k_proj("
        "hidden_states))\n        scores = (query @ key.transpose(-1, -2) * self.scaling)[:, :, :1]",
        "tests/test_forward_memory.py::test_no_attention_map_but_the_class_tokens_row",
    ),
    Mutation(
        "encoding finishes all tokens",
        "modeling_fpig/modeling_fpig.py",
        "output_last_hidden_state=False, return_dict=True)\n        return normalize(",
        "output_last_hidden_state=True, return_dict=True)\n        return normalize(",
        "tests/test_forward_memory.py::test_last_layer_finishes_only_what_is_read",
    ),
    Mutation(
        "embedding finishes all tokens",
        "fpig/embedding.py",
        "output_last_hidden_state=False",
        "output_last_hidden_state=True",
        "tests/test_forward_memory.py::test_last_layer_finishes_only_what_is_read",
    ),
    Mutation(
        "the summary ends with selected patches",
        "modeling_fpig/modeling_fpig.py",
        "pooled_tokens[:, :num_summary]",
        "pooled_tokens",
        "tests/test_modeling.py::test_nothing_but_the_last_hidden_state_needs_all_tokens",
    ),
    Mutation(
        "frame embeddings begin with the proxies'",
        "fpig/embedding.py",
        "summary_tokens[:, model.config.num_global_tokens :]",
        "summary_tokens[:, 1:]",
        "tests/test_embedding.py::test_batches_have_what_all_tokens_have",
    ),
    Mutation(
        "the last layer's residual of the first tokens, not of those that are read",
        "modeling_fpig/video_fpig.py",
        "hidden_states = take_tokens(hidden_states, positions)",
        "hidden_states = hidden_states[:, : positions.shape[1]]",
        "tests/test_reference.py::test_whole_model",
    ),
    Mutation(
        "the last layer's attention of the first tokens, not of those that are read",
        "modeling_fpig/video_fpig.py",
        "self.out_proj(take_tokens(torch.cat(outputs, dim=1), positions))",
        "self.out_proj(torch.cat(outputs, dim=1)[:, : positions.shape[1]])",
        "tests/test_reference.py::test_whole_model",
    ),
    Mutation(
        "quick-GELU as transformers has it, which keeps two tensors for backward",
        "modeling_fpig/transformer_fpig.py",
        'quick_gelu if config.hidden_act == "quick_gelu" else ACT2FN[config.hidden_act]',
        "ACT2FN[config.hidden_act]",
        "tests/test_forward_memory.py::test_backward_needs_no_more_than_clips",
    ),
    Mutation(
        "quick-GELU whatever the configuration says",
        "modeling_fpig/transformer_fpig.py",
        'quick_gelu if config.hidden_act == "quick_gelu" else ACT2FN[config.hidden_act]',
        "quick_gelu",
        "tests/test_modeling.py::test_activation_is_the_one_of_the_configuration",
    ),
    Mutation(
        "quick-GELU that is not scaled back",
        "modeling_fpig/transformer_fpig.py",
        "nn.functional.silu(states).mul_(1 / QUICK_GELU_SLOPE)",
        "nn.functional.silu(states)",
        "tests/test_reference.py::test_whole_model",
    ),
    Mutation(
        "share of the rate for one video a second",
        "benchmarks/gpu.py",
        "share = num_operations * measurement.videos_per_second / matrix_rate",
        "share = num_operations / matrix_rate",
        "tests/test_gpu_benchmark.py::test_share_is_of_the_measured_rate",
    ),
    Mutation(
        "the search for the largest batch stops at the last that doubled",
        "benchmarks/gpu.py",
        "            fitting, largest = middle, measurement",
        "            break",
        "tests/test_gpu_benchmark.py::test_largest_batch_that_fits_is_found",
    ),
)

FRAME_CACHE = (
    Mutation(
        "cached frames are not checked",
        "fpig/frame_cache.py",
        "if compute_checksum(frame) != checksums[index]:",
        "if False:",
        "tests/test_frame_cache.py::test_damaged_file_is_made_again",
    ),
    Mutation(
        "the first frames are checked instead of those taken",
        "fpig/frame_cache.py",
        "!= checksums[index]:",
        "!= checksums[indices.index(index)]:",
        "tests/test_frame_cache.py::test_items_are_those_without_a_cache_and_decoded_once",
    ),
    Mutation(
        "cached frames of other settings are taken",
        "fpig/frame_cache.py",
        "if file.metadata() != metadata:",
        "if not file.metadata():",
        "tests/test_frame_cache.py::test_file_from_other_settings_is_made_again",
    ),
    Mutation(
        "the mode of resizing is no setting of the cache",
        "fpig/frame_cache.py",
        '            "resize_mode": video_processor.resize_mode,\n',
        "",
        "tests/test_frame_cache.py::test_file_from_other_settings_is_made_again",
    ),
    Mutation(
        "another version of a video keeps its cached frames",
        "fpig/frame_cache.py",
        '{"num_bytes": status.st_size, "modified_nanoseconds": status.st_mtime_ns}',
        "{}",
        "tests/test_frame_cache.py::test_file_of_another_version_of_the_video_is_made_again",
    ),
    Mutation(
        "a cached frame appears before it is whole",
        "fpig/frame_cache.py",
        "partial.write_bytes(content)",
        "path.write_bytes(content[:9]), partial.write_bytes(content)",
        "tests/test_frame_cache.py::test_two_processes_fill_one_folder",
    ),
    Mutation(
        "every video is kept, whatever the cache may hold",
        "fpig/frame_cache.py",
        "min(len(self.names), max(0, (max_bytes - other_bytes) // video_bytes))",
        "len(self.names)",
        "tests/test_frame_cache.py::test_folder_stays_within_its_bound",
    ),
    Mutation(
        "what others left in the cache is not counted",
        "fpig/frame_cache.py",
        "other_bytes += status.st_size",
        "other_bytes += 0",
        "tests/test_frame_cache.py::test_folder_stays_within_its_bound",
    ),
    Mutation(
        "a cache that may hold less keeps what it had",
        "fpig/frame_cache.py",
        "numbers[path.name] >= num_kept or num_bytes > video_bytes",
        "num_bytes > video_bytes",
        "tests/test_frame_cache.py::test_folder_stays_within_its_bound",
    ),
    Mutation(
        "larger files of other settings stay in the cache",
        "fpig/frame_cache.py",
        "numbers[path.name] >= num_kept or num_bytes > video_bytes",
        "numbers[path.name] >= num_kept",
        "tests/test_frame_cache.py::test_larger_files_of_other_settings_make_room",
    ),
    Mutation(
        "others' unfinished files are cleared away with the cache's own",
        "fpig/frame_cache.py",
        'r"[0-9a-f]{64}\\.frames-[0-9a-f]{16}\\.partial"',
        'r".*\\.partial"',
        "tests/test_frame_cache.py::test_what_a_killed_run_left_is_cleared_when_it_is_old",
    ),
    Mutation(
        "pictures that change in their folder keep their cached frames",
        "fpig/frame_cache.py",
        "stamps = [(name, status.st_size, status.st_mtime_ns) for",
        "stamps = [name for",
        "tests/test_frame_cache.py::test_pictures_that_change_in_their_folder_are_read_again",
    ),
    Mutation(
        "a full disk is tried again with every video",
        "fpig/frame_cache.py",
        "            self.is_writable = False\n",
        "",
        "tests/test_frame_cache.py::test_nothing_is_kept_when_the_disk_is_nearly_full",
    ),
    Mutation(
        "too few candidates are found out after the towers",
        "fpig/stages.py",
        "    args.check_candidates(config.num_frames)\n",
        "",
        "tests/test_stages.py::test_too_few_candidates_are_refused_before_any_stage",
    ),
    Mutation(
        "a full disk ends the run",
        "fpig/frame_cache.py",
        "        except OSError as error:\n            self.is_writable",
        "        except KeyError as error:\n            self.is_writable",
        "tests/test_frame_cache.py::test_full_disk_is_told_once_and_leaves_nothing",
    ),
    Mutation(
        "a full disk leaves half a file",
        "fpig/frame_cache.py",
        "        partial.unlink(missing_ok=True)\n\n",
        "        pass\n\n",
        "tests/test_frame_cache.py::test_full_disk_is_told_once_and_leaves_nothing",
    ),
    Mutation(
        "half files that others are writing are cleared away",
        "fpig/frame_cache.py",
        "time.time() - status.st_mtime > STALE_SECONDS",
        "time.time() - status.st_mtime > -1",
        "tests/test_frame_cache.py::test_what_a_killed_run_left_is_cleared_when_it_is_old",
    ),
    Mutation(
        "with a cache the draw goes over all frames in test mode",
        "fpig/training_items.py",
        "num_available, self.num_frames, self.mode, generator.clone_state()",
        "num_available, self.num_frames",
        "tests/test_frame_cache.py::test_items_are_those_without_a_cache_and_decoded_once",
    ),
    Mutation(
        "a damaged file changes what is drawn",
        "fpig/training_items.py",
        "generator.clone_state()",
        "generator",
        "tests/test_frame_cache.py::test_damaged_file_is_made_again",
    ),
    Mutation(
        "candidates are the first frames",
        "processing_fpig/video_processing_fpig.py",
        "candidates = spread_candidates(num_available, num_candidates)",
        "candidates = range(min(num_available, num_candidates))",
        "tests/test_frame_cache.py::test_only_candidates_are_taken",
    ),
    Mutation(
        "a run without candidates goes on with some",
        "fpig/settings.py",
        '*("frame_cache", "frame_cache_gib"),',
        '*("frame_cache", "frame_cache_gib", "frame_candidates"),',
        "tests/test_training_args.py::test_run_goes_on_with_its_own_settings_alone",
    ),
)

MUTATIONS = (
    *VIDEO,
    *SELECTION_AND_GENERATOR,
    *INTERACTION,
    *CAPTIONS_AND_BLOCKS,
    *LOSSES,
    *START,
    *TRAINING,
    *RANKS,
    *RUNS,
    *PROCESSING,
    *PUSHES,
    *DEMO,
    *METRIC_SPACE,
    *EXPORT,
    *NEIGHBOURS,
    *AVS,
    *ANNOTATIONS,
    *SINGLE_TOWER_AND_SEARCH,
    *RANKING_AND_RESCORING,
    *CACHED_GRADIENTS,
    *SEVERAL_PROCESSES,
    *FORWARD_COST,
    *FRAME_CACHE,
)


def copy_project(folder: Path) -> None:
    """What tests need, without the repository's history and what runs have left behind."""
    ignored = shutil.ignore_patterns(
        ".git", ".venv", "venv", "__pycache__", ".*_cache", "outputs", "*.egg-info"
    )
    shutil.copytree(ROOT, folder, ignore=ignored, dirs_exist_ok=True)


def run_tests(folder: Path, *tests: str) -> int:
    """pytest's exit status in the copy: 0 all passed, 1 some failed."""
    paths = os.pathsep.join(str(path) for path in (folder, folder / "metrics"))
    environment = os.environ | ENVIRONMENT | {"PYTHONPATH": paths}
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, check=False).returncode


def is_caught(mutation: Mutation, folder: Path) -> bool:
    """Whether the mutation's test fails in the copy at `folder`, which is left as it was."""
    path = folder / mutation.file
    source = path.read_text(encoding="utf-8")
    if source.count(mutation.original) != 1:
        raise ValueError(
            f"`{mutation.file}` must have {mutation.original!r} exactly once: adapt the mutation"
        )
    path.write_text(source.replace(mutation.original, mutation.wrong), encoding="utf-8")
    try:
        return run_tests(folder, mutation.test) == 1
    finally:
        path.write_text(source, encoding="utf-8")


def main(arguments: list[str] | None = None) -> None:
    """Runs all mutations, or those named, and prints a table."""
    parser = argparse.ArgumentParser(prog="python tests/mutations.py", description=__doc__.split("\n\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="parts of names (default: all)")
    names = parser.parse_args(arguments).names
    chosen = [m for m in MUTATIONS if not names or any(name in m.name for name in names)]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "project"
        copy_project(folder)
        if not chosen or run_tests(folder, *sorted({mutation.test for mutation in chosen})):
            raise SystemExit("no mutation has such a name, or a test fails before any mutation")
        survivors = 0
        for mutation in chosen:
            caught = is_caught(mutation, folder)
            survivors += not caught
            print(f"{'caught  ' if caught else 'SURVIVED'} | {mutation.name} | {mutation.test}", flush=True)
    print(f"{len(chosen) - survivors} of {len(chosen)} caught")
    if survivors:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
