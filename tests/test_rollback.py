"""What is removed again where the input turns out to be bad."""

import pytest

from clm.errors import MachineError, UserError
from clm.rollback import Rollback, lock_file


@pytest.mark.parametrize(("error", "removed"), [(UserError, True), (MachineError, False)])
def test_what_this_run_has_built_goes_and_what_was_there_before_stays(tmp_path, error, removed):
    before, built = tmp_path / "before", tmp_path / "above/built"
    before.mkdir()
    with pytest.raises(error), Rollback() as rollback:
        for folder in (before, built):
            with rollback.locked(folder):
                folder.mkdir(exist_ok=True)
        rollback.built(built)
        raise error("the text is bad, or the disk full")
    assert before.is_dir() and built.exists() is not removed
    assert lock_file(built).exists() is not removed and built.parent.exists() is not removed
