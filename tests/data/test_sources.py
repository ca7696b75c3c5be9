import datasets
import pytest

from clm.data.sources.hub_rows import HubSource
from clm.data.sources.splits import open_sources
from clm.errors import MachineError, UserError

IDENTITY = {"repository": "me/words", "config": "plain", "commit": "0" * 40, "split": "train"}


def texts(source):
    return [text for batch in source.documents() for text in batch.texts]


@pytest.fixture
def opened(tmp_path):
    def open_with(**keys):
        nothing = dict.fromkeys(["dataset_name", "dataset_config_name", "train_file", "validation_file"])
        return open_sources(**{**nothing, "cache_dir": str(tmp_path / "cache"), **keys})

    return open_with


def test_files_with_a_validation_file(tmp_path, opened):
    (tmp_path / "a.txt").write_text("one\n\ntwo")
    (tmp_path / "b.txt").write_text("three")
    splits = opened(
        train_file=f"{tmp_path}/a.txt", validation_file=f"{tmp_path}/b.txt", document_separator="blank_line"
    )
    assert texts(splits.train) == ["one", "two"]
    assert texts(splits.validation) == ["three"]
    assert splits.train.name == "a"
    assert splits.note == f"validation text: {tmp_path}/b.txt"


def test_files_without_one_are_divided(tmp_path, opened):
    lines = [f"line {number}" for number in range(200)]
    (tmp_path / "a.txt").write_text("\n".join(lines))
    splits = opened(train_file=f"{tmp_path}/a.txt", document_separator="line")
    assert len(texts(splits.validation)) == 10
    assert sorted(texts(splits.train) + texts(splits.validation)) == sorted(lines)
    assert "10 of 200 documents" in splits.note
    assert splits.train.fingerprint() != splits.validation.fingerprint()


def test_the_same_file_on_both_sides_is_refused(tmp_path, opened):
    (tmp_path / "a.txt").write_text("one")
    (tmp_path / "link.txt").symlink_to("a.txt")
    with pytest.raises(UserError, match=r"link\.txt is in train_file too"):
        opened(train_file=f"{tmp_path}/a.txt", validation_file=f"{tmp_path}/link.txt")


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"train_file": "/no/such.txt"}, "train_file: there is no file /no/such.txt"),
        ({"dataset_name": "/"}, "/ is a file or folder here; give it as train_file"),
    ],
)
def test_what_cannot_be_opened_is_refused(opened, keys, message):
    with pytest.raises(UserError, match=message):
        opened(**keys)


def test_the_embedded_corpus_is_divided_by_documents(opened):
    splits = opened(dataset_name="python-docs")
    assert splits.train.name == "python-docs"
    assert splits.note.startswith("validation text: 5 % of the documents of the documentation of Python 3.")


def test_no_network_is_said_in_one_line(opened, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match=r"the Hub can't be reached .* train_file .* python-docs"):
        opened(dataset_name="me/words")
    assert datasets.config.HF_HUB_OFFLINE is False


@pytest.mark.parametrize("streaming", [False, True])
def test_rows_of_the_hub(streaming):
    rows = ["", " = One = \n", "", "text \n", "", " = Two = \n", ""]
    dataset = datasets.Dataset.from_dict({"text": rows, "id": range(7)})
    dataset = dataset.to_iterable_dataset() if streaming else dataset
    source = HubSource(dataset, IDENTITY, "text", "article")
    assert texts(source) == texts(source) == ["\n = One = \n\ntext \n\n", " = Two = \n\n"]
    assert source.name == "plain"
    assert texts(HubSource(dataset, IDENTITY, "text", None)) == [row for row in rows if row]


def test_rows_of_the_hub_that_are_no_texts():
    dataset = datasets.Dataset.from_dict({"text": ["a", None], "id": [1, 2], "none": ["", " "]})
    with pytest.raises(
        UserError, match="me/words, plain, train: has no column 'body'; set text_column to one of: 'text'"
    ):
        HubSource(dataset, IDENTITY, "body", None)
    source = HubSource(dataset, IDENTITY, "text", None)
    assert texts(source) == ["a"]
    assert source.notes.lines == ["me/words, plain, train, row 2: 'text' is null, and the row was left out"]
    with pytest.raises(UserError, match="train: 'id' is int64, not text"):
        texts(HubSource(dataset, IDENTITY, "id", None))
    with pytest.raises(UserError, match="holds no text"):
        texts(HubSource(dataset, IDENTITY, "none", None))


def test_a_stream_that_breaks_off_is_the_machines_failure():
    def rows():
        yield {"text": "a"}
        raise ConnectionError("connection reset")

    source = HubSource(datasets.IterableDataset.from_generator(rows), IDENTITY, "text", None)
    with pytest.raises(MachineError, match=r"reading it failed \(connection reset\)"):
        texts(source)
