"""
Fine-tune a trained model on your own csv, with the columns `video` (a path beside the csv), `caption` and
`split` (train or validation). The best epoch by validation R@1 is kept.

    python examples/finetune_on_csv.py outputs/shapes my.csv outputs/mine

For several GPUs and pushes to the Hub: `accelerate launch train.py --model_name_or_path … --dataset my.csv`.
"""

import argparse
from pathlib import Path

from fpig.datasets import load_captioned_videos
from fpig.embedding import load_encoder
from fpig.hub import write_release
from fpig.trainer import FPigTrainer
from fpig.training_args import FPigTrainingArguments

parser = argparse.ArgumentParser(description="Fine-tune a trained model on a csv.")
parser.add_argument("model", help="trained model: a folder, or a repository of the Hub")
parser.add_argument("csv")
parser.add_argument("output_dir")
parser.add_argument("--epochs", type=float, default=5)
parser.add_argument("--batch_size", type=int, default=32, help="at most the number of training videos")
parser.add_argument("--learning_rate", type=float, default=1e-5)
arguments = parser.parse_args()

output_dir = Path(arguments.output_dir)
if output_dir.exists():
    parser.error(f"`output_dir` is {output_dir}, which is there already; choose another name")
model, processor = load_encoder(arguments.model)
trainer = FPigTrainer(
    model=model,
    args=FPigTrainingArguments(
        output_dir=f"{arguments.output_dir}-checkpoints",
        num_train_epochs=arguments.epochs,
        per_device_train_batch_size=arguments.batch_size,
        learning_rate=arguments.learning_rate,
    ),
    processor=processor,
    train_records=load_captioned_videos(arguments.csv, "train"),
    validation_records=load_captioned_videos(arguments.csv, "validation"),
)
before = trainer.evaluate()["eval_t2v_R@1"]
trainer.train()
# Weights, configs, code, processor and a card: `AutoModel` loads it, `fpig push` publishes it.
write_release(output_dir, trainer.model, processor, None, Path(__file__).parents[1] / "model_card.md")
after = trainer.evaluate()["eval_t2v_R@1"]
print(f"validation R@1: {before:.1f} before, {after:.1f} after; written to {output_dir}")
