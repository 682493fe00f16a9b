"""Every setting of a training run."""

from dataclasses import dataclass, field

from transformers import TrainingArguments
from transformers.trainer_utils import HubStrategy

from fpig.annotations.videos import ON_MISSING
from fpig.hub_target import check_repo_id

VIDEO_POOLINGS = ("pseudo_query", "class_token", "mean")
COUNTS_OF_MODEL = (
    *("num_frames", "projection_dim", "hidden_size", "num_hidden_layers"),
    *("num_attention_heads", "image_size", "patch_size"),
)
COUNTS_FROM_ZERO = ("num_proxy_tokens", "num_selected_tokens")
NUMBERS_OF_STAGES = (
    *("tower_epochs", "generator_epochs", "num_train_epochs"),
    *("tower_learning_rate", "generator_learning_rate", "learning_rate"),
)


@dataclass
class ModelArguments:
    """
    Where the model starts. With neither `clip_name_or_path` nor `model_name_or_path` a small model with
    random weights is built from the sizes below; both towers share them.
    """

    clip_name_or_path: str | None = field(
        default=None, metadata={"help": "CLIP checkpoint to start from: a Hub name or a folder."}
    )
    model_name_or_path: str | None = field(
        default=None,
        metadata={
            "help": "Trained model to fine-tune: a Hub name or a folder. Its own config decides on its "
            "pooling, frames and sizes; of the settings below generation_loss_weight alone counts."
        },
    )
    model_revision: str | None = field(
        default=None,
        metadata={
            "help": "Branch, tag or commit of the Hub repository that the run starts from; pin the commit "
            "whose code you have read."
        },
    )
    trust_remote_code: bool = field(
        default=False, metadata={"help": "Run the code of the repository that `model_name_or_path` names."}
    )
    video_pooling: str = field(
        default="pseudo_query",
        metadata={"help": "pseudo_query (F-Pig), class_token (CLIP-ViP) or mean (CLIP4Clip)."},
    )
    num_frames: int = field(default=12, metadata={"help": "Frames sampled from a video."})
    num_proxy_tokens: int = field(default=3, metadata={"help": "Proxy tokens beside the class token."})
    num_selected_tokens: int = field(
        default=16, metadata={"help": "Patches selected for the generator; 0 for none."}
    )
    use_interaction: bool = field(
        default=True, metadata={"help": "false: the pseudo-query is the video's embedding, an ablation."}
    )
    generation_loss_weight: float = field(
        default=2.0, metadata={"help": "Weight alpha of the generation loss."}
    )
    max_length: int = field(default=50, metadata={"help": "Captions are cut to this many tokens."})
    projection_dim: int = field(default=128, metadata={"help": "Small model: width of the joint space."})
    hidden_size: int = field(default=128, metadata={"help": "Small model: width of both towers."})
    num_hidden_layers: int = field(default=4, metadata={"help": "Small model: layers of each tower."})
    num_attention_heads: int = field(default=4, metadata={"help": "Small model: heads of each tower."})
    image_size: int = field(default=32, metadata={"help": "Small model: frames are image_size × image_size."})
    patch_size: int = field(default=8, metadata={"help": "Small model: patches are patch_size × patch_size."})
    vocab_size: int = field(
        default=1024, metadata={"help": "Small model: largest vocabulary of its tokenizer."}
    )
    logit_scale_init_value: float = field(
        default=2.6592, metadata={"help": "Small model: start value of the log similarity scale."}
    )

    def __post_init__(self) -> None:
        # The model refuses them too, but only after the data have been made.
        for names, minimum in ((COUNTS_OF_MODEL, 1), (COUNTS_FROM_ZERO, 0)):
            for name in names:
                if self.__dict__[name] < minimum:
                    raise ValueError(f"`{name}` is {self.__dict__[name]}; it must be at least {minimum}")
        if self.video_pooling not in VIDEO_POOLINGS:
            raise ValueError(
                f"`video_pooling` is {self.video_pooling!r}; it must be one of {', '.join(VIDEO_POOLINGS)}"
            )


@dataclass
class DataArguments:
    """Where the captioned videos come from."""

    dataset: str = field(
        default="shapes",
        metadata={
            "help": "msrvtt1k, msrvtt3k, msvd, vatex, didemo (published), shapes (generated), a csv, jsonl "
            "or parquet file, a folder, or a datasets repository."
        },
    )
    data_root: str | None = field(
        default=None,
        metadata={"help": "Folder of a published data set; where it is empty, data/<its name>."},
    )
    on_missing: str = field(
        default="raise",
        metadata={
            "help": "What to do about videos that are not there: raise, or skip, which decodes a frame of "
            "every video first and leaves out and names those that are missing or unreadable."
        },
    )
    train_split: str = field(default="train", metadata={"help": "Split to train on; empty for all videos."})
    validation_split: str = field(
        default="validation", metadata={"help": "Split that picks the best checkpoint; empty for none."}
    )
    test_split: str = field(
        default="test", metadata={"help": "Split that is measured once, at the end; empty for none."}
    )

    def __post_init__(self) -> None:
        if self.on_missing not in ON_MISSING:
            raise ValueError(
                f"`on_missing` is {self.on_missing!r}; it must be one of {', '.join(ON_MISSING)}"
            )
        for name in ("validation_split", "test_split"):
            if not self.train_split and self.__dict__[name]:
                raise ValueError(
                    f"`train_split` is empty, which takes all videos, but `{name}` is "
                    f"{self.__dict__[name]!r} and would be trained on: leave it empty too"
                )


@dataclass
class FPigTrainingArguments(TrainingArguments):
    """
    transformers' `TrainingArguments` for the last stage, and what the stages before it change.

    A model with random weights first trains its towers as a CLIP, on single frames and captions. Then stage 1
    trains the generator alone, then stage 2 trains everything. `num_train_epochs`, `learning_rate` and all
    others are stage 2's; a stage with 0 epochs is left out.
    """

    output_dir: str = field(
        default="outputs/fpig", metadata={"help": "The run's folder, and then the release."}
    )
    tower_epochs: float = field(
        default=0.0,
        metadata={"help": "Epochs of a CLIP on single frames before stage 1; random weights only."},
    )
    tower_learning_rate: float = field(default=1e-3, metadata={"help": "Its learning rate."})
    generator_epochs: float = field(
        default=1.0, metadata={"help": "Epochs of stage 1: towers frozen, generation loss alone."}
    )
    generator_learning_rate: float = field(default=1e-4, metadata={"help": "Its learning rate."})
    embed_batch_size: int | None = field(
        default=None,
        metadata={
            "help": "Videos embedded at once: each process's batch is cut into chunks of so many, for the "
            "same gradients, up to dropout's draws, in the memory of one chunk and for one more forward "
            "pass; left out, all at once."
        },
    )
    frame_candidates: int | None = field(
        default=None,
        metadata={
            "help": "Frames of each video that training chooses from, spread evenly over it; left out, all. "
            "A clip that has fewer loses nothing."
        },
    )
    frame_cache: str | None = field(
        default=None,
        metadata={
            "help": "Folder that keeps the frame_candidates decoded and resized, so that a video is decoded "
            "once and not in every epoch; for one data set and one group of settings."
        },
    )
    frame_cache_gib: float = field(
        default=100.0,
        metadata={
            "help": "GiB that frame_cache may hold; a video takes frame_candidates × 147 KiB at 224 × 224."
        },
    )
    resume_from_checkpoint: bool = field(
        default=False,
        metadata={
            "help": "Continue the run in output_dir: finished stages are kept, the unfinished one goes on "
            "from its last checkpoint; with push_to_hub from the Hub's where output_dir has none."
        },
    )
    eval_strategy: str = field(
        default="epoch", metadata={"help": "When stage 2 validates: no, steps or epoch."}
    )
    save_strategy: str = field(default="epoch", metadata={"help": "When to save: no, steps, epoch or best."})
    load_best_model_at_end: bool = field(
        default=True, metadata={"help": "Release the checkpoint that validated best, not the last."}
    )
    metric_for_best_model: str | None = field(
        default="t2v_R@1", metadata={"help": "What makes a checkpoint the best."}
    )
    greater_is_better: bool | None = field(
        default=True, metadata={"help": "Whether that number should be large."}
    )
    dataloader_drop_last: bool = field(
        default=True, metadata={"help": "The joint loss needs equal batches: must stay true."}
    )
    ddp_find_unused_parameters: bool | None = field(
        default=False, metadata={"help": "Search every step for unused parameters: no stage trains any."}
    )
    remove_unused_columns: bool = field(
        default=False, metadata={"help": "The collator names what the model takes: must stay false."}
    )
    save_total_limit: int | None = field(
        default=2, metadata={"help": "Checkpoints kept of each stage, the best among them."}
    )
    hub_private_repo: bool = field(
        default=False, metadata={"help": "Make the repository that is pushed to private."}
    )
    report_to: None | str | list[str] = field(
        default="none", metadata={"help": "Where to log; none by default."}
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, needed in (("dataloader_drop_last", True), ("remove_unused_columns", False)):
            if self.__dict__[name] is not needed:
                raise ValueError(f"`{name}` is {self.__dict__[name]}; it must be {needed}: leave it out")
        for name in NUMBERS_OF_STAGES:
            if not 0 <= self.__dict__[name] < float("inf"):
                raise ValueError(f"`{name}` is {self.__dict__[name]}; it must be finite and at least 0")
        if self.max_steps > 0:
            raise ValueError(
                f"`max_steps` is {self.max_steps}; the stages of a run are as long as `tower_epochs`, "
                "`generator_epochs` and `num_train_epochs` say, which may be fractions: set these"
            )
        self.check_hub_arguments()
        self.check_optimizer()
        for name in ("per_device_train_batch_size", "per_device_eval_batch_size"):
            if self.__dict__[name] < 1:
                raise ValueError(f"`{name}` is {self.__dict__[name]}; it must be at least 1")
        if self.embed_batch_size is not None and self.embed_batch_size < 1:
            raise ValueError(
                f"`embed_batch_size` is {self.embed_batch_size}; it must be at least 1: leave it out to "
                "embed the whole batch at once"
            )
        self.check_frame_arguments()

    def check_candidates(self, num_frames: int) -> None:
        """
        Raises:
            ValueError: fewer candidates than frames that the model takes.
        """
        if self.frame_candidates is not None and self.frame_candidates < num_frames:
            raise ValueError(
                f"`frame_candidates` is {self.frame_candidates}, fewer than the {num_frames} frames that the "
                "model takes of a video: raise it"
            )

    def check_frame_arguments(self) -> None:
        """Refuses a cache of nothing, and one without candidates."""
        if self.frame_candidates is not None and self.frame_candidates < 1:
            raise ValueError(
                f"`frame_candidates` is {self.frame_candidates}; it must be at least 1: leave it out to "
                "choose from all frames"
            )
        if self.frame_cache == "":
            raise ValueError("`frame_cache` is empty; name a folder, or leave it out to keep no frames")
        if self.frame_cache is not None and self.frame_candidates is None:
            raise ValueError(
                f"`frame_cache` is {self.frame_cache!r} but `frame_candidates` is None; say how many frames "
                "of a video it keeps: four times those that the model takes, `--frame_candidates 48`, leave "
                "training much to choose from"
            )
        if not 0 < self.frame_cache_gib < float("inf"):
            raise ValueError(f"`frame_cache_gib` is {self.frame_cache_gib}; it must be finite and above 0")

    def check_optimizer(self) -> None:
        """Refuses those that need a loop of their own."""
        if "lomo" in self.optim and self.embed_batch_size is not None:
            raise ValueError(
                f"`optim` is '{self.optim.value}', which steps in a batch's one backward pass, but with "
                "`embed_batch_size` each chunk has one: leave it out, or take another optimizer"
            )
        if self.optim.startswith("schedule_free"):
            raise ValueError(
                f"`optim` is '{self.optim.value}', whose weights for training are not those to validate and "
                "save, and nothing exchanges them here: take another, such as adamw_torch"
            )

    def check_hub_arguments(self) -> None:
        """Refuses what would end in an error, or in nothing pushed, after hours of training."""
        if not self.push_to_hub:
            if self.hub_model_id is not None:
                raise ValueError(
                    f"`hub_model_id` is {self.hub_model_id!r} but `push_to_hub` is False, and nothing would "
                    "be pushed: add `--push_to_hub`"
                )
            return
        if self.hub_model_id is None:
            raise ValueError("`hub_model_id` is None; say where to push: `--hub_model_id organisation/name`")
        check_repo_id("hub_model_id", self.hub_model_id)
        if self.hub_strategy == HubStrategy.ALL_CHECKPOINTS:
            raise ValueError(
                "`hub_strategy` is 'all_checkpoints'; it must be one of end, every_save, checkpoint"
            )


__all__ = ["DataArguments", "FPigTrainingArguments", "ModelArguments"]
