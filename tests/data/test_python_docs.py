import pytest

from clm.data.sources.python_docs import PythonDocs


@pytest.fixture(scope="module")
def docs():
    return PythonDocs()


def texts(source):
    return [text for batch in source.documents() for text in batch.texts]


def test_it_is_megabytes_of_text_and_the_same_each_time(docs):
    first = texts(docs)
    size = docs.bytes_read
    assert 1_500_000 < size < 8_000_000
    assert size == len("".join(first).encode())
    assert texts(docs) == first == texts(PythonDocs())
    assert len(set(first)) > 300


def test_a_module_is_a_document_with_qualified_names(docs):
    [text] = [text for text in texts(docs) if text.startswith("textwrap\n\n")]
    assert "\n\ntextwrap.TextWrapper.wrap\n\nwrap(text : string) -> [string]\n\nReformat" in text


def test_a_topic_is_a_document(docs):
    assert any(text.startswith('The "assert" statement\n') for text in texts(docs))


def test_the_fingerprint_has_the_separator():
    assert PythonDocs().fingerprint() != PythonDocs("line").fingerprint()
