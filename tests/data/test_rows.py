"""Rows of JSON lines and parquet: nulls, fields in fields, and what isn't a text."""

import io
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.data.reading import read, refusal, write


def as_jsonl(*rows):
    return "\n".join(map(json.dumps, rows))


def as_parquet(**columns):
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer)
    return buffer.getvalue()


def test_nulls_are_left_out_and_counted(tmp_path):
    rows = [{"text": "a"}, {"text": None}, {"text": "b"}, {"text": None}, {"text": None}]
    note = "'text' is null, and the row was left out: 3 times, first at PATH, {} 2"
    assert read(write(tmp_path / "a.jsonl", as_jsonl(*rows))) == (["a", "b"], [note.format("line")])
    data = as_parquet(text=[row["text"] for row in rows])
    assert read(write(tmp_path / "a.parquet", data)) == (["a", "b"], [note.format("row")])


def test_nothing_but_nulls_is_no_text(tmp_path):
    what = "PATH: holds no text; PATH, {} 1: 'text' is null, and the row was left out"
    assert refusal(write(tmp_path / "a.jsonl", '{"text": null}')) == what.format("line")
    assert refusal(write(tmp_path / "a.parquet", as_parquet(text=pa.nulls(1)))) == what.format("row")


def test_a_text_inside_an_object(tmp_path):
    rows = [{"doc": {"text": "a", "id": 1}}, {"doc": None}, {"doc": {"text": None, "id": 2}}]
    path = write(tmp_path / "a.jsonl", as_jsonl(*rows))
    assert read(path, text_column="doc.text")[0] == ["a"]
    assert "2 times, first at PATH, line 2" in read(path, text_column="doc.text")[1][0]
    assert refusal(path) == (
        "PATH, line 1: has no 'text'; set text_column to one of: 'doc.text' (\"a\"), 'doc.id' (a number, 1)"
    )
    assert refusal(path, text_column="doc").startswith(
        "PATH, line 1: 'doc' is an object with 'text', 'id', not a text; set text_column to one of: 'doc.text'"
    )
    path = write(tmp_path / "a.parquet", as_parquet(doc=[row["doc"] for row in rows]))
    assert read(path, text_column="doc.text")[0] == ["a"]
    assert "2 times, first at PATH, row 2" in read(path, text_column="doc.text")[1][0]
    assert "set text_column to one of: 'doc.text' (string), 'doc.id' (int64)" in refusal(path)
    assert "'doc' is struct<" in refusal(path, text_column="doc")


def test_a_name_with_a_dot_is_a_name_first(tmp_path):
    assert read(write(tmp_path / "a.jsonl", '{"a.b": "x", "a": {"b": "y"}}'), text_column="a.b")[0] == ["x"]
    assert read(write(tmp_path / "a.parquet", as_parquet(**{"a.b": ["x"]})), text_column="a.b")[0] == ["x"]


@pytest.mark.parametrize(
    ("value", "shape", "advice"),
    [
        (
            [{"role": "user", "content": "a"}],
            "a list of objects with 'role', 'content'",
            r"""jq -c '{text: ([.text[].content] | join("\n\n"))}' FILE""",
        ),
        (["a", "b"], "a list of texts", r"""jq -c '{text: ([.text[]] | join("\n"))}' FILE"""),
        ([], "an empty list", "jq -c"),
        ([1, 2], "a list of numbers", "jq -c"),
    ],
)
def test_a_list_is_refused_with_its_shape_and_a_way_to_join_it(tmp_path, value, shape, advice):
    message = refusal(write(tmp_path / "a.jsonl", as_jsonl({"text": value})))
    assert message.startswith(f"PATH, line 1: 'text' is {shape}, not a text; join each to one text first")
    assert advice in message
    if value and value != [1, 2]:
        message = refusal(write(tmp_path / "a.parquet", as_parquet(text=[value])))
        assert message.startswith("PATH: 'text' is list<") and "joined to one text" in message


def test_bytes_in_parquet_are_text_where_they_are_utf8(tmp_path):
    assert read(write(tmp_path / "a.parquet", as_parquet(text=[b"one", "zwö".encode(), None])))[0] == ["one", "zwö"]
    message = refusal(write(tmp_path / "a.parquet", as_parquet(text=[b"one", b"\xff"])))
    assert message == "PATH, row 1 or soon after: 'text' is not UTF-8"


def test_words_of_a_dictionary_are_texts(tmp_path):
    assert read(write(tmp_path / "a.parquet", as_parquet(text=pa.array(["a", "b", "a"]).dictionary_encode())))[0] == [
        *("a", "b", "a")
    ]


@pytest.mark.parametrize(
    ("content", "advice"),
    [
        ('[{"text": "a"},\n {"text": "b"}]', "jq -c '.[]' FILE"),
        ('[{"text": "a"}]', "jq -c '.[]' FILE"),
        ('{\n  "text": "a"\n}', "jq -c . FILE"),
        ("plain words", 'one object a line is needed, like {"text": "…"}'),
    ],
)
def test_json_that_is_not_lines_is_told_how_to_become_so(tmp_path, content, advice):
    message = refusal(write(tmp_path / "a.json", content))
    assert message.startswith("PATH, line 1: ") and message.endswith(advice)
