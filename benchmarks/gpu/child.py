"""A part in this process: `python -m benchmarks.gpu.child MODULE:FUNCTION FOLDER ROWS SECONDS [--rehearse]`."""

import importlib
import json
import sys
from dataclasses import replace
from pathlib import Path

from benchmarks.gpu.setting import Setting


def main() -> None:
    check, folder, rows_file, seconds, *rehearse = sys.argv[1:]
    setting = Setting(Path(folder), float(seconds), bool(rehearse))
    module, function = check.split(":")
    with Path(rows_file).open("w", encoding="utf-8", buffering=1) as rows:  # each is there once it is found
        for row in getattr(importlib.import_module(module), function)(setting):
            if setting.rehearsal and isinstance(row.figure, float):  # of a toy, which reaches nothing
                row = replace(row, ok=None)
            print(json.dumps(row.as_json()), file=rows)


if __name__ == "__main__":
    main()
