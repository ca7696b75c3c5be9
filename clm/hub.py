"""A finished run, to the Hub."""

from pathlib import Path

from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError, HTTPError, LocalTokenNotFoundError

from clm.errors import MachineError, UserError

# What other people need of a run's folder. Checkpoints, locks and logs stay here.
PUBLISHED = (
    "README.md",
    "config.json",
    "generation_config.json",
    "model*.safetensors*",
    "tokenizer*.json",
    "recipe.json",
    "*_results.json",
    "trainer_state.json",
    "data.json",
    "environment.json",
    "energy.json",
    "samples.jsonl",
    "report.html",
    "loss_curve.png",
)


def check_access(repo_id: str) -> None:
    """Make sure, before training, that the repository is there and may be written; it is made if need be.

    Raises:
        UserError: no token, one without the right to write, or no network.
    """
    try:
        HfApi().create_repo(repo_id, exist_ok=True)
    except LocalTokenNotFoundError:
        raise UserError("push_to_hub: there is no token; `hf auth login`, or set HF_TOKEN") from None
    except HfHubHTTPError as error:
        raise UserError(
            f"push_to_hub: the Hub refuses {repo_id} ({_line(error)}); a token that may write is needed"
        ) from None
    except (OSError, HTTPError) as error:
        raise UserError(f"push_to_hub: the Hub can't be reached ({_line(error)}); leave push_to_hub out") from None


def push(output_dir: Path, repo_id: str, revision: str | None = None) -> str:
    """Upload a finished run's model, tokenizer, results and card in one commit; the commit's address.

    Raises:
        MachineError: the Hub couldn't be reached or refused it.
    """
    try:
        commit = HfApi().upload_folder(
            repo_id=repo_id,
            folder_path=output_dir,
            allow_patterns=list(PUBLISHED),
            commit_message="A finished run",
            revision=revision,
        )
    except (OSError, RuntimeError, HTTPError, HfHubHTTPError) as error:
        raise MachineError(
            f"{output_dir} is finished, but pushing it to {repo_id} failed ({_line(error)}); "
            f"`hf upload {repo_id} {output_dir} --exclude 'checkpoint-*'` tries again"
        ) from None
    return commit.commit_url


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
