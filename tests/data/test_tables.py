"""Tables in text: what stands between the columns is found out and said, and no text loses a quote or a tab."""

import pytest

from tests.data.reading import read, refusal, write

NAMES = {";": "semicolons", "\t": "tabs", "|": "bars"}


@pytest.mark.parametrize("delimiter", NAMES)
@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
def test_the_delimiter_is_found_and_said(tmp_path, delimiter, suffix):
    lines = [["id", "text"], ["0", "one, two"], ["1", "three"]]
    path = write(tmp_path / f"a{suffix}", "\r\n".join(delimiter.join(line) for line in lines) + "\r\n")
    note = f"PATH: has {NAMES[delimiter]} between its columns, and was read so"
    assert read(path) == (["one, two", "three"], [note])
    assert read(path, csv_delimiter=delimiter) == (["one, two", "three"], [])


def test_a_comma_goes_unsaid_and_a_named_delimiter_is_kept_to(tmp_path):
    path = write(tmp_path / "a.csv", "id,text\n1,a;b\n2,c|d\n")
    assert read(path) == (["a;b", "c|d"], [])
    path = write(tmp_path / "a.csv", "id~text\n1~a\n")
    assert read(path, csv_delimiter="~") == (["a"], [])
    path = write(tmp_path / "a.csv", "text\tid\na,b\t1\n")
    assert read(path, csv_delimiter="tab") == read(path, csv_delimiter="\\t") == (["a,b"], [])


def test_columns_are_shown_with_a_sample_of_each(tmp_path):
    path = write(tmp_path / "a.csv", "id;body\n0;A long text that goes on and on and on\n1;b\n")
    assert refusal(path) == (
        "PATH: has no column 'text'; set text_column to one of: 'id' (\"0\"), 'body' "
        '("A long text that goes on and …"); its first line names them'
    )


def test_the_whole_header_is_no_column(tmp_path):
    # What the advice "set text_column to 'id;text'" led to: a training text of "0;one".
    path = write(tmp_path / "a.csv", "id;text\n0;one\n1;two\n")
    assert refusal(path, text_column="id;text") == (
        "PATH: has semicolons between its columns; set text_column to one of: 'id', 'text'"
    )


def test_a_column_twice_is_said(tmp_path):
    assert read(write(tmp_path / "a.csv", "text,text\na,b\n")) == (
        ["a"],
        ["PATH: has 2 columns 'text', and the first of them was read"],
    )


@pytest.mark.parametrize(
    ("rows", "texts"),
    [
        # Nothing is quoted: quotes are letters.
        (['"Yes," he said.', '"No."', 'a "b" c', '"'], ['"Yes," he said.', '"No."', 'a "b" c', '"']),
        # As pandas writes it: quoted is what must be, and a quote is doubled.
        (['"He said ""yes""."', "b"], ['He said "yes".', "b"]),
        (['"two\nlines"', "b"], ["two\nlines", "b"]),
        (['"a\ttab"', "b"], ["a\ttab", "b"]),
    ],
)
def test_quotes_in_a_table_with_tabs(tmp_path, rows, texts):
    lines = ["text\tid", *(f"{row}\t{number}" for number, row in enumerate(rows))]
    assert read(write(tmp_path / "a.tsv", "\n".join(lines)))[0] == texts


def test_a_table_that_quotes_everything(tmp_path):
    assert read(write(tmp_path / "a.tsv", '"text"\t"id"\n"one"\t"1"\n'))[0] == ["one"]


def test_a_row_of_another_width_is_named(tmp_path):
    assert refusal(write(tmp_path / "a.tsv", "id\ttext\n1\tone\n2\ttwo\tmore\n")) == (
        "PATH, line 3: has 3 fields instead of 2"
    )
