"""What comes from the Hub: where it is kept, and whether the Hub can be reached."""

import os
from pathlib import Path

from huggingface_hub import HfApi, constants
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, HTTPError, RepositoryNotFoundError

from clm.errors import UserError


def hub_cache(cache_dir: str | Path) -> str:
    """The folder for downloads: below the recipe's cache_dir, but where HF_HOME or HF_HUB_CACHE say if one is set."""
    if {"HF_HOME", "HF_HUB_CACHE"} & set(os.environ):
        return constants.HF_HUB_CACHE
    return str(Path(cache_dir) / "hub")


def why_unreachable(repo: str, key: str) -> str:
    """Why the Hub can't be reached; empty where it can. Asked once, since loading would go on trying for a minute.

    Args:
        key: what the user named the model repository `repo` by.

    Raises:
        UserError: the Hub has no such repository, or not for us.
    """
    try:
        HfApi().model_info(repo, timeout=10)
    except (HFValidationError, RepositoryNotFoundError):
        raise UserError(
            f"{key} {repo!r}: there is no such folder, and none of that name on the Hub that we may read"
        ) from None
    except HfHubHTTPError:
        return ""  # it answers; loading will tell what is wrong
    except (OSError, HTTPError) as error:
        return " ".join(str(error).split()) or type(error).__name__
    return ""
