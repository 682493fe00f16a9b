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
        "frames = heads[:, :, num_global_tokens:].unflatten(2, (num_frames, -1))",
        "frames = heads[:, :, num_global_tokens:].roll(1, 2).unflatten(2, (num_frames, -1))",
        "tests/test_reference.py::test_proxy_guided_attention",
    ),
    Mutation(
        "frames see the class token alone, not the proxies",
        "modeling_fpig/video_fpig.py",
        "shared = heads[:, :, None, :num_global_tokens].expand(-1",
        "shared = heads[:, :, None, :1].expand(-1",
        "tests/test_reference.py::test_proxy_guided_attention",
    ),
    Mutation(
        "globals see the first frame alone",
        "modeling_fpig/video_fpig.py",
        "self.attend(query[:, :, :num_global_tokens], key, value)",
        "self.attend(query[:, :, :num_global_tokens], key[:, :, :13], value[:, :, :13])",
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
        "return self.post_layernorm(hidden_states), class_token_attention",
        "return hidden_states, class_token_attention",
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
        "    @torch.no_grad()\n    def get_class_token_attention",
        "    def get_class_token_attention",
        "tests/test_modeling.py::test_no_gradient_through_the_selection",
    ),
    Mutation(
        "mean pooling of features that are not normalised",
        "modeling_fpig/modeling_fpig.py",
        "normalize(frame_tokens).mean(dim=1)",
        "frame_tokens.mean(dim=1)",
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
        "torch.cat([summary, selected], dim=1)",
        "torch.cat([selected, summary], dim=1)",
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
        "self.q_proj(self.layer_norm1(query))",
        "self.q_proj(self.layer_norm2(query))",
        "tests/test_golden.py::test_interaction",
    ),
    Mutation(
        "pseudo-query added to the result",
        "modeling_fpig/interaction_fpig.py",
        "output = self.layer_norm2(self.out_proj(pooled.squeeze(1)))",
        "output = self.layer_norm2(self.out_proj(pooled.squeeze(1)) + query.squeeze(1))",
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
        "self.v_proj(tokens))",
        "self.v_proj(tokens), scale=1.0)",
        "tests/test_golden.py::test_interaction",
    ),
    Mutation(
        "interaction over the patches too",
        "modeling_fpig/modeling_fpig.py",
        "self.interaction(pseudo_query, summary)",
        "self.interaction(pseudo_query, tokens)",
        "tests/test_golden.py::test_video_features",
    ),
)

CAPTIONS_AND_BLOCKS = (
    Mutation(
        "GELU for quick-GELU",
        "modeling_fpig/transformer_fpig.py",
        "ACT2FN[config.hidden_act]",
        'ACT2FN["gelu"]',
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
        "self.vision_model.embeddings.frame_embedding.copy_(clip.vision_model.embeddings.class_embedding)",
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
        "fpig/datasets.py",
        "record.captions[caption_index]",
        "record.captions[0]",
        "tests/test_training_items.py::test_draws_depend_on_seed_epoch_and_index_alone",
    ),
    Mutation(
        "the same frames and caption every epoch",
        "fpig/datasets.py",
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
        "return GatherWithGradient.apply(tensor)",
        "return GatherWithGradient.apply(tensor.detach())",
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
        "{name: weights.get(name, fresh) for",
        "{name: fresh for",
        "tests/test_stages.py::test_generator_starts_as_a_copy_of_the_trained_text_tower",
    ),
    Mutation(
        "generator starts from nothing after the tower stage",
        "fpig/stages.py",
        "changed.initialize_generator_from_text_model()",
        "pass",
        "tests/test_stages.py::test_generator_starts_as_a_copy_of_the_trained_text_tower",
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
        "        except (OSError, ValueError):\n            continue\n",
        "        except (OSError, ValueError):\n            pass\n",
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
        "fpig/training_args.py",
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
        "                frames += stream.codec_context.decode(None)\n",
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
        "rotated the other way",
        "processing_fpig/decoding_fpig.py",
        "k=round(frame.rotation / 90)",
        "k=-round(frame.rotation / 90)",
        "tests/test_decoding.py::test_rotation_as_a_player_shows_it",
    ),
    Mutation(
        "colour range of the file ignored",
        "processing_fpig/decoding_fpig.py",
        'format="rgb24", interpolation=INTERPOLATION, threads',
        'format="rgb24", interpolation=INTERPOLATION, src_color_range=1, threads',
        "tests/test_decoding.py::test_colours_by_the_standards_formula",
    ),
    Mutation(
        "colour matrix of the file ignored",
        "processing_fpig/decoding_fpig.py",
        'format="rgb24", interpolation=INTERPOLATION, threads',
        'format="rgb24", interpolation=INTERPOLATION, src_colorspace=1, threads',
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
        'interpolate(frames, target, mode="bicubic", antialias=is_crop)',
        'interpolate(frames.float(), target, mode="bicubic", antialias=is_crop).round().clamp(0, 255)',
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
