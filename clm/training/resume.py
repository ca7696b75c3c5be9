"""What earlier starts of a run have left in its folder, and from where this start resumes it."""

from dataclasses import dataclass
from pathlib import Path

from clm.errors import UserError
from clm.launch import processes, status
from clm.progress import Say
from clm.training.checkpoint import find
from clm.training.checkpoint.folders import remove_leftovers, step_of


@dataclass(frozen=True)
class Earlier:
    """The checkpoint to resume from, and the steps of the run that finished in `output_dir`; None for neither."""

    output_dir: Path
    checkpoint: Path | None
    finished_steps: int | None

    @property
    def folders(self) -> list[Path]:
        """The folders that must be of the same run as this start."""
        return [folder for folder in (self.checkpoint, self.output_dir if self.finished_steps else None) if folder]

    @property
    def steps(self) -> int:
        """Optimizer steps of the checkpoint to resume from; 0 for a fresh start."""
        return step_of(self.checkpoint.resolve()) if self.checkpoint else 0

    def is_all(self, total_steps: int, world_size: int, say: Say) -> bool:
        """Whether nothing is left to do of a run of `total_steps`. If there is, say from where it is resumed.

        Raises:
            UserError: the run has another length than the one that finished, and there is no checkpoint to resume from.
        """
        if total_steps == self.finished_steps:
            say(f"{self.output_dir} holds this run, finished after {total_steps:,} steps: nothing to do")
            return True
        if self.checkpoint is not None:
            find.announce(self.checkpoint, total_steps, world_size, say)
        elif self.finished_steps:
            raise UserError(
                f"{self.output_dir} holds this run, finished after {self.finished_steps:,} steps, and no checkpoint to "
                "resume from: set another output_dir"
            )
        return False


def look(output_dir: Path, request: str | None, needs_best: bool, say: Say) -> Earlier:
    """Find what is in `output_dir`, on every process, and delete what killed starts have left half-done.

    Args:
        request: `resume_from_checkpoint`, as `find.find` takes it.
        needs_best: the run ends with the best of its models, so the checkpoint of that has to be intact, too.

    Raises:
        UserError: the request can't be met.
    """
    checkpoint = processes.on_main(lambda: find.find(output_dir, request, needs_best, say))
    processes.on_main(lambda: remove_leftovers(output_dir))
    return Earlier(output_dir, checkpoint, status.finished_steps(output_dir))
