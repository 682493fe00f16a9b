"""The Trainer of all stages: joint contrastive loss, retrieval evaluation, best checkpoint by R@1."""

from contextlib import nullcontext
from typing import Any

import torch
from accelerate.utils.memory import clear_device_cache
from torch.utils.data import Sampler
from transformers import PreTrainedModel, ProcessorMixin, Trainer

from fpig.cached_gradients import JointEmbeds, embed_chunks, read_embeds
from fpig.collator import RetrievalCollator
from fpig.datasets import CaptionedVideo
from fpig.distributed import gather_with_gradient
from fpig.evaluation import evaluate_retrieval
from fpig.frame_cache import GIB, FrameCache
from fpig.sampler import EpochSampler, SetEpochCallback
from fpig.sharing import connect_cpus
from fpig.training_args import FPigTrainingArguments
from fpig.training_items import VideoCaptionDataset


def freeze_all_but_generator(model: PreTrainedModel) -> None:
    """Stage 1: towers, projections, interaction and temperature stay; the generator learns."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.startswith("generator."))


def make_items(
    records: list[CaptionedVideo],
    processor: ProcessorMixin,
    args: FPigTrainingArguments,
    num_frames: int,
    seed: int,
) -> VideoCaptionDataset:
    """
    What training sees of its videos: with a cache of their frames if `args` say so.

    Raises:
        ValueError: fewer candidates than frames.
    """
    args.check_candidates(num_frames)
    cache = None
    if args.frame_cache is not None:
        cache = FrameCache(
            args.frame_cache,
            processor.video_processor,
            [record.video for record in records],
            args.frame_candidates,
            int(args.frame_cache_gib * GIB),
        )
    return VideoCaptionDataset(records, processor, num_frames, "train", seed, args.frame_candidates, cache)


class FPigTrainer(Trainer):
    """
    Trains any `FPigModel` on captioned videos.

    Args:
        model: loaded or built; what its `video_pooling` says is trained.
        args: settings of this stage.
        processor: samples frames and tokenizes.
        train_records: videos of the training split; each epoch visits every video once with one of its
            captions, so that two captions of one video never meet in a batch.
        validation_records: videos that pick the best checkpoint, or `None`.
        generator_only: stage 1, the generation loss alone.

    Raises:
        ValueError: fewer videos than one joint batch, fewer candidates than frames, or several GPUs under one
            process.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        args: FPigTrainingArguments,
        processor: ProcessorMixin,
        train_records: list[CaptionedVideo],
        validation_records: list[CaptionedVideo] | None = None,
        generator_only: bool = False,
    ) -> None:
        if args.n_gpu > 1:
            raise ValueError(
                f"`n_gpu` is {args.n_gpu}; one process drives one GPU, so that the loss sees all negatives: "
                "start with `accelerate launch`"
            )
        joint_batch_size = args.per_device_train_batch_size * args.world_size
        if len(train_records) < joint_batch_size:
            raise ValueError(
                f"`per_device_train_batch_size` is {args.per_device_train_batch_size} on {args.world_size} "
                f"processes, but there are only {len(train_records)} training videos: lower it"
            )
        self.seed = args.seed if args.data_seed is None else args.data_seed
        self.validation_records = validation_records
        self.generator_only = generator_only
        self.loss_sums: dict[str, torch.Tensor] = {}
        self.num_summed_losses = 0
        for parameter in model.parameters():
            parameter.requires_grad_(True)
        if generator_only:
            freeze_all_but_generator(model)
        super().__init__(
            model=model,
            args=args,
            data_collator=RetrievalCollator(processor),
            train_dataset=make_items(train_records, processor, args, model.config.num_frames, self.seed),
            eval_dataset=validation_records,
            processing_class=processor,
        )
        self.add_callback(SetEpochCallback())
        connect_cpus()  # for `evaluate`

    def _get_train_sampler(self, train_dataset: VideoCaptionDataset | None = None) -> Sampler:
        return EpochSampler(len(self.train_dataset), seed=self.seed)

    def get_decay_parameter_names(self, model: torch.nn.Module) -> list[str]:
        """
        What weight decay applies to: the matrices of linear maps and of the patch embedding.

        transformers' own rule takes embeddings and the temperature too. At a small learning rate the decay of
        a temperature of 4.6 is as large as a step of Adam's and would cancel it.
        """
        decaying = (torch.nn.Linear, torch.nn.Conv2d)
        return [f"{name}.weight" for name, module in model.named_modules() if isinstance(module, decaying)]

    def training_step(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Any],
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> torch.Tensor:
        """Forward and backward; with `embed_batch_size` the same gradients chunk by chunk."""
        chunk_size = self.args.embed_batch_size
        if chunk_size is None or chunk_size >= len(inputs["video_ids"]):
            return super().training_step(model, inputs, num_items_in_batch)
        model.train()
        inputs = self._prepare_inputs(inputs)
        video_ids = inputs.pop("video_ids")
        chunks, embeds = embed_chunks(model, inputs, chunk_size)
        loss = self.compute_joint_loss(embeds, video_ids) / self.current_gradient_accumulation_steps
        cache_steps = self.args.torch_empty_cache_steps
        if cache_steps is not None and self.state.global_step % cache_steps == 0:
            clear_device_cache()
        loss.backward()  # as far as the chunks' embeddings
        for chunk in chunks:
            # The step's last chunk averages over the processes all that was accumulated. The Trainer's own
            # `no_sync` around an earlier batch would not do: that of FSDP2 ends with the first inside it.
            is_last = chunk is chunks[-1] and self.accelerator.sync_gradients
            with nullcontext() if is_last else self.accelerator.no_sync(model):
                self.accelerator.backward(chunk.embed_again())
        return loss.detach()

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> torch.Tensor | tuple[torch.Tensor, Any]:
        """The loss of the joint batch of all processes; see `FPigModel.compute_loss`."""
        video_ids = inputs.pop("video_ids")
        outputs = model(**inputs, return_loss=False)
        loss = self.compute_joint_loss(read_embeds(outputs), video_ids)
        return (loss, outputs) if return_outputs else loss

    def compute_joint_loss(self, embeds: JointEmbeds, video_ids: list[str]) -> torch.Tensor:
        """
        The loss of this stage, from what this process has embedded of the joint batch.

        Raises:
            FloatingPointError: it is not finite.
        """
        *embeds_of_batch, logit_scale = embeds
        loss, retrieval_loss, generation_loss = self.accelerator.unwrap_model(self.model).compute_loss(
            *gather_with_gradient(*embeds_of_batch), logit_scale
        )
        if self.generator_only:
            loss = generation_loss
        if not torch.isfinite(loss):
            raise FloatingPointError(
                f"`loss` is {loss.item()} at step {self.state.global_step + 1}; the batch was "
                f"{', '.join(video_ids)}: look at these files, or lower the learning rate"
            )
        self._add_losses(retrieval_loss=retrieval_loss, generation_loss=generation_loss)
        return loss

    def _add_losses(self, **losses: torch.Tensor | None) -> None:
        """Keeps the parts of the loss for the next log line."""
        for name, value in losses.items():
            if value is not None:
                self.loss_sums[name] = self.loss_sums.get(name, 0.0) + value.detach()
        self.num_summed_losses += 1

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Adds the mean of each part of the loss since the last line."""
        if "loss" in logs and self.num_summed_losses:
            for name, value in self.loss_sums.items():
                logs[name] = float(value) / self.num_summed_losses
            self.loss_sums, self.num_summed_losses = {}, 0
        super().log(logs, start_time)

    def evaluate(
        self,
        eval_dataset: list[CaptionedVideo] | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> dict[str, float]:
        """
        Retrieval metrics of `eval_dataset`, the validation videos by default.

        Each video and caption is encoded once, which transformers' own loop would not do with several
        captions a video.
        """
        records = self.validation_records if eval_dataset is None else eval_dataset
        model = self.accelerator.unwrap_model(self.model)
        results = evaluate_retrieval(
            model.eval(),
            self.processing_class,
            records,
            batch_size=self.args.per_device_eval_batch_size,
            num_workers=self.args.dataloader_num_workers,
        )
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in results.metrics.items()}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics


__all__ = ["FPigTrainer", "freeze_all_but_generator"]
