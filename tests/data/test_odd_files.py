"""Files that are nearly right, as people have them: read, or refused with what to do."""

import json
import os
import random

import pytest

from clm.data.sources import packed
from clm.data.sources.files import find_files
from clm.errors import UserError
from tests.data.reading import read, refusal, source_of, write


def found(*patterns):
    """The names of the files that are found, and the notes."""
    files = find_files([str(pattern) for pattern in patterns], "train_file")
    return [path.name for path in files.paths], files.notes


def no_file(pattern):
    with pytest.raises(UserError) as caught:
        find_files(str(pattern), "train_file")
    return str(caught.value)


def test_links_that_lead_to_folders_or_nowhere_are_named(tmp_path):
    write(tmp_path / "other/b.txt", "b")
    folder = write(tmp_path / "d/a.txt", "a").parent
    (folder / "more").symlink_to(tmp_path / "other")
    (folder / "gone.txt").symlink_to("nowhere")
    (folder / "linked.txt").symlink_to(tmp_path / "other/b.txt")
    said = "links to folders, or to nothing, aren't followed: gone.txt, more"
    assert found(folder) == (["a.txt", "linked.txt"], [f"train_file: the folder {folder}: {said}"])
    (folder / "a.txt").unlink()
    (folder / "linked.txt").unlink()
    assert said in no_file(folder)
    assert no_file(folder / "gone.txt").endswith("gone.txt is a link to nowhere, which isn't there")


def test_a_pipe_is_not_called_empty(tmp_path):
    os.mkfifo(tmp_path / "a.txt")
    assert "is a pipe or a device, which can't be read twice" in no_file(tmp_path / "a.txt")


@pytest.mark.parametrize("pattern", ["C:\\texts\\*.txt", "C:\\texts\\a.txt"])
def test_a_path_of_windows(pattern):
    assert no_file(pattern).endswith("; folders are parted by / here, as in /mnt/c/texts")


def test_a_line_that_names_the_delimiter_is_no_header(tmp_path):
    for first in ("sep=;\r\n", '"sep=;"\n', "sep=;\n"):
        texts, notes = read(write(tmp_path / "a.csv", f"{first}id;text\n1;a b\n2;c, d\n"))
        assert texts == ["a b", "c, d"]
        assert notes == ["PATH: begins with a line that names semicolons, and was read so"]


def test_json_that_is_nearly_lines(tmp_path):
    lines = "".join(json.dumps({"text": text}) + ",\n" for text in "ab")
    assert "no comma stands after an object here: sed 's/,[[:space:]]*$//' FILE" in refusal(
        write(tmp_path / "a.jsonl", lines)
    )
    whole = json.dumps({"version": 1, "data": [{"text": "a"}, {"text": "b"}]})
    assert refusal(write(tmp_path / "a.json", whole)) == (
        "PATH, line 1: has no 'text'; its rows are in the list 'data', and are made lines by: jq -c '.data[]' FILE"
    )
    assert 'line 1: is a text, "a b c", not an object' in refusal(write(tmp_path / "a.json", '"a b c"'))


def test_a_separator_that_is_not_there_is_said(tmp_path):
    path = write(tmp_path / "a.txt", "a\n\nb\n\nc")
    assert read(path, separator="\n\n") == (["a", "b", "c"], [])
    said = "PATH: doesn't hold the document_separator '{}', so it is one document"
    assert read(path, separator="###") == (["a\n\nb\n\nc"], [said.format("###")])
    assert read(path, separator="\\n\\n")[1] == [said.format("\\\\n\\\\n") + "; in a shell a line end is $'\\n'"]
    assert read(write(tmp_path / "b.txt", "a###"), separator="###") == (["a"], [])


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf16_without_a_mark_is_guessed_where_no_letter_is_latin(tmp_path, encoding):
    text = "".join(random.Random(0).choices("天地玄黄宇宙洪荒日月盈昃辰宿列张，。\n", k=400))
    path = write(tmp_path / "a.txt", text.encode(encoding))
    assert f"perhaps it is {encoding}, which reads" in refusal(path)
    assert read(path, text_encoding=encoding)[0] == [text]
    noise = random.Random(0).randbytes(4_000)
    assert "so it isn't text" in refusal(write(tmp_path / "b.txt", noise))


def test_a_named_encoding_whose_only_letter_of_its_own_is_the_last_byte(tmp_path, monkeypatch):
    # 0xe9 begins a letter of UTF-8, which never ends here
    assert read(write(tmp_path / "a.txt", b"un caf\xe9"), text_encoding="cp1252")[0] == ["un café"]
    assert read(write(tmp_path / "b.txt", "un café".encode()), text_encoding="cp1252")[0] == ["un café"]
    monkeypatch.setattr(packed, "CHUNK_BYTES", 8)  # a block of four bytes, and then less
    assert read(write(tmp_path / "c.txt", b"0000\xc2"), text_encoding="cp1252")[0] == ["0000Â"]


def test_a_line_end_in_a_files_name_breaks_no_message(tmp_path):
    source = source_of(write(tmp_path / "a\nb.txt", "\ufeffone\ufeff\n"))
    assert [text for batch in source.documents() for text in batch.texts] == ["one\ufeff\n"]
    assert source.origin.endswith(r"/a\nb.txt") and "\n" not in "".join(source.notes.lines)
