"""A repository on the Hub: which one, whether it may be written, and what its errors mean."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
from huggingface_hub import CommitOperationAdd, HfApi, get_token, set_client_factory
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.utils import disable_progress_bars
from huggingface_hub.utils._http import default_client_factory
from huggingface_hub.utils.logging import set_verbosity_error

from clm.errors import UserError

MAIN = "main"
CHECKPOINTS = "checkpoints"
WITH_CHECKPOINTS = ("checkpoint", "all_checkpoints")
_SILENCE = 120  # seconds without a byte after which a connection counts as lost; the client's own limit is none
_REFUSALS = (401, 403, 404)  # which trying again doesn't mend


@dataclass(frozen=True)
class Target:
    """Where a run goes on the Hub.

    Args:
        name: the repository's; without an owner it is the token's.
        branch: of the model.
        private: of a repository that is made; None for the account's default.
        strategy: TrainingArguments' hub_strategy.
    """

    name: str
    branch: str = MAIN
    private: bool | None = None
    strategy: str = "end"

    @classmethod
    def of(cls, training: Mapping[str, Any]) -> "Target":
        """As a recipe's training keys say."""
        return cls(
            training.get("hub_model_id") or Path(training["output_dir"]).absolute().name,
            training.get("hub_revision") or MAIN,
            training.get("hub_private_repo"),
            training["hub_strategy"],
        )

    @property
    def checkpoint_branch(self) -> str:
        """Where its checkpoints go, which would only be in the way of those who want the model."""
        return CHECKPOINTS if self.branch == MAIN else f"{self.branch}-{CHECKPOINTS}"


def client() -> HfApi:
    """The Hub's client. It is quiet, and counts a silent connection as lost."""
    set_verbosity_error()  # it would log every retry, with the address
    disable_progress_bars()
    set_client_factory(_patient)
    return HfApi()


def _patient() -> httpx2.Client:
    made = default_client_factory()
    made.timeout = _SILENCE
    return made


def full_name(api: HfApi, name: str) -> str:
    """OWNER/NAME; who the owner is by default, the token tells."""
    return name if "/" in name else f"{api.whoami()['name']}/{name}"


def open_repository(api: HfApi, target: Target, kind: str = "model") -> str:
    """Make the repository and its branches where they are missing, and make sure that they may be written; OWNER/NAME.

    Raises:
        UserError: no token, or one that may not write there.
        Exception: the Hub can't be reached, or is in trouble.
    """
    if not (api.token or get_token()):
        raise UserError(f"push_to_hub: there is no token for {target.name}; `hf auth login`, or set HF_TOKEN")
    try:
        name = api.create_repo(target.name, private=target.private, repo_type=kind, exist_ok=True).repo_id
        branches = [target.branch] + [target.checkpoint_branch] * (target.strategy in WITH_CHECKPOINTS)
        for branch in branches:
            if branch != MAIN:
                api.create_branch(name, branch=branch, repo_type=kind, exist_ok=True)
        # Every upload asks this first. Where the repository exists, a token that may only read passes all of the above.
        probe = CommitOperationAdd("README.md", b"-")
        api.preupload_lfs_files(name, [probe], repo_type=kind, revision=target.branch)
        return name
    except HfHubHTTPError as error:
        if refused(error):
            raise UserError(
                f"push_to_hub: the Hub refuses {target.name} ({line(error)}); a token that may write is needed"
            ) from None
        raise


def refused(error: BaseException) -> bool:
    """Whether the Hub has said no, rather than failed."""
    response = _response(error)
    return response is not None and response.status_code in _REFUSALS


def retry_after(error: BaseException) -> float:
    """Seconds that the Hub asks to wait; 0 where it doesn't."""
    response = _response(error)
    asked = response.headers.get("Retry-After", "") if response is not None else ""
    return float(asked) if asked.isdecimal() else 0.0


def line(error: BaseException) -> str:
    """What went wrong in one short line, the token never in it."""
    said = " ".join(str(each) for each in _chain(error))
    said = re.sub(r"\?[^\s']+", "", " ".join(said.split()))[:300]  # an address's query may be a key to the storage
    said = said or type(error).__name__
    token = get_token()
    return said.replace(token, "***") if token else said


def _chain(error: BaseException) -> list[BaseException]:
    """An error and what caused it, down to the Hub's answer: the client wraps that of a file's upload."""
    ends = isinstance(error, HfHubHTTPError) or error.__cause__ is None
    return [error] if ends else [error, *_chain(error.__cause__)]


def _response(error: BaseException) -> Any | None:
    return next((e.response for e in _chain(error) if isinstance(e, HfHubHTTPError)), None)
