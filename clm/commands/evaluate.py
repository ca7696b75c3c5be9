"""Score a text with a model, or with the mean of several models' probabilities."""

from collections.abc import Sequence
from pathlib import Path

from clm.commands.arguments import CommandParser, count, truth


def run(words: Sequence[str]) -> None:
    """Score, print, write."""
    parser = CommandParser("evaluate", __doc__)
    parser.add_argument(
        "--model", required=True, action="append", help="a folder, or a name on the Hub; may be given several times"
    )
    text = parser.add_mutually_exclusive_group(required=True)
    text.add_argument("--text_file", metavar="PATH", help="a file, folder or glob, as train_file in a recipe")
    text.add_argument("--dataset_name", help="a dataset of the Hub")
    parser.add_argument("--dataset_config_name", help="its configuration, such as wikitext-103-raw-v1")
    parser.add_argument("--split", default="test")
    parser.add_argument("--text_column", default="text")
    parser.add_argument("--text_encoding", metavar="NAME", help="of text that isn't UTF-8, such as cp1252")
    parser.add_argument("--csv_delimiter", metavar="C", help="the character between columns; by default it is detected")
    parser.add_argument("--document_separator", help="line, blank_line, article, none, or a text; default: the run's")
    parser.add_argument("--block_size", type=count, help="tokens in a window; default: the run's, or the model's")
    parser.add_argument("--stride", type=count, help="tokens from window to window; default: block_size")
    parser.add_argument("--per_device_eval_batch_size", type=count, default=8, help="windows at a time")
    parser.add_argument("--bf16", type=truth, nargs="?", const=True, default=False, help="bf16 instead of fp32")
    parser.add_argument("--cache_dir", default=".cache", help="for datasets of the Hub")
    parser.add_argument("--output", type=Path, metavar="FILE", help="also write it as JSON")
    args = parser.parse(words)
    # These take seconds to import, so not before the command line is right.
    from clm.evaluation import evaluate
    from clm.launch.processes import processes

    with processes():
        evaluate.run(args)
