"""What a folder, a glob or a path names: what of it is read, and what is said about the rest."""

import pytest

from clm.data.sources.files import find_files
from clm.errors import UserError
from tests.data.reading import write


def found(patterns):
    return find_files(str(patterns), "train_file")


def refused(patterns):
    with pytest.raises(UserError) as caught:
        found(patterns)
    return str(caught.value)


def fill(folder, **sizes):
    for name, size in sizes.items():
        write(folder / name.replace("__", "/").replace("_", "."), b"x" * size)


def test_every_format_of_a_folder_is_read(tmp_path):
    names = "a.txt b.txt.bz2 c.zip d.tsv e.txt.xz f.md g.tar.gz h.tgz i.parquet j.csv.zst k.ndjson"
    for name in names.split():
        write(tmp_path / name, b"x")
    assert [path.name for path in found(tmp_path).paths] == names.split()
    assert found(tmp_path).notes == []


def test_what_is_not_read_is_counted_by_kind(tmp_path):
    fill(tmp_path, a_txt=3000, b_pdf=1000, sub__c_pdf=500, d_docx=1, wiki00=2)
    fill(tmp_path, _hidden=9000, _git__x_pdf=9000, README=9000, LICENSE=9000, e_pdf=0)
    paths, notes = found(tmp_path)
    assert [path.name for path in paths] == ["a.txt"]
    assert notes == [
        f"train_file: the folder {tmp_path}: left out: 2 .pdf (1.5 kB), 1 no suffix (2 bytes), 1 .docx (1 byte) of a "
        "kind that isn't read"
    ]


def test_more_left_out_than_read_stops(tmp_path):
    fill(tmp_path, a_txt=3000, b_pdf=3000)
    assert len(found(tmp_path).notes) == 1
    fill(tmp_path, c_docx=1)
    assert refused(tmp_path) == (
        f"train_file: the folder {tmp_path} holds more that isn't read (1 .pdf (3.0 kB), 1 .docx (1 byte)) than is "
        f"(1 .txt (3.0 kB)); name the files that you want, for example {tmp_path}/**/*.txt"
    )
    assert [path.name for path in found(f"{tmp_path}/**/*.txt").paths] == ["a.txt"]


def test_a_folder_of_other_things_names_them(tmp_path):
    fill(tmp_path, a_pdf=5, b_pdf=5)
    assert "has no file that ends in .txt, " in refused(tmp_path) and "only 2 .pdf (10 bytes)" in refused(tmp_path)


def test_readmes_and_licences_are_not_text_to_learn_from(tmp_path):
    fill(tmp_path, README_md=100, sub__LICENSE_txt=100, a_txt=1)
    paths, notes = found(tmp_path)
    assert [path.name for path in paths] == ["a.txt"]
    assert notes == [f"train_file: the folder {tmp_path}: left out: README.md, sub/LICENSE.txt, about the text"]
    assert len(found(f"{tmp_path}/**/*.*").paths) == 3  # named, they are read
    (tmp_path / "a.txt").unlink()
    assert [path.name for path in found(tmp_path).paths] == ["README.md", "LICENSE.txt"]  # there is nothing else


def test_brackets_in_a_folders_name_are_brackets(tmp_path):
    fill(tmp_path / "texts [v1]", a_txt=1, b_txt=1)
    fill(tmp_path / "texts [v1]" / "more [2]", c_txt=1)
    assert [path.name for path in found(f"{tmp_path}/texts [v1]/*.txt").paths] == ["a.txt", "b.txt"]
    assert [path.name for path in found(f"{tmp_path}/texts [v1]/[ab].txt").paths] == ["a.txt", "b.txt"]
    assert [path.name for path in found(f"{tmp_path}/texts [v1]/more [2]/*").paths] == ["c.txt"]
    brackets = "brackets stand for one of the characters in them: write [[] for a ["
    assert refused(f"{tmp_path}/*/more [2]/*.txt").endswith(brackets)
    assert [path.name for path in found(f"{tmp_path}/*/more [[]2]/*.txt").paths] == ["c.txt"]


@pytest.mark.parametrize("pattern", ["none.txt", "*.none"])
def test_where_a_relative_path_was_looked_for_is_said(tmp_path, monkeypatch, pattern):
    monkeypatch.chdir(tmp_path)
    assert refused(pattern).endswith(f"{pattern} in {tmp_path}, from where relative paths start")
    assert "where relative" not in refused(tmp_path / pattern)
