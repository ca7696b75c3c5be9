"""JSON has no infinity and no NaN, and readers other than Python's stop at them."""

import json
import math

from clm.files import write_json


def test_what_is_not_finite_is_null(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"a": [1.5, math.inf, {"b": math.nan}], "c": -math.inf, "d": "NaN", "e": (True, None, 3)})
    assert json.loads(path.read_text()) == {"a": [1.5, None, {"b": None}], "c": None, "d": "NaN", "e": [True, None, 3]}
    assert "Infinity" not in path.read_text()
