"""The token store: nothing lost, whole or not there, and opened without being read."""

import errno
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from clm.data.blocks import Blocks
from clm.data.order import EpochOrder
from clm.data.sources import packed
from clm.data.sources.packed import Batch
from clm.data.sources.splits import open_sources
from clm.data.store.encoder import ReferenceEncoder
from clm.data.store.token_store import TokenStore, open_or_build
from clm.data.store.writer import write_part
from clm.errors import MachineError, UserError
from tests.data.small import Texts, Unread, mixed_text, small_tokenizer, wide_tokenizer
from tests.tiny import ROOT

SEPARATORS = [None, "line", "blank_line", "article", "<|sep|>"]


def build(folder, source, tokenizer=None, fingerprint=None, **how):
    return open_or_build(folder, source, tokenizer or small_tokenizer(), fingerprint or {"version": 1}, **how)


def file_source(path, separator=None):
    other = path.with_name("validation.txt")
    other.write_text("other text", "utf-8")
    return open_sources(
        dataset_name=None,
        dataset_config_name=None,
        train_file=str(path),
        validation_file=str(other),
        document_separator=separator,
        cache_dir=str(path.parent),
    ).train


def write(path, text):
    path.write_bytes(text.encode())
    return path


def text_with(separator, count=120):
    """Difficult documents with this separator between them."""
    between = {None: " ", "line": "\r\n", "blank_line": "\n \t\n\n", "article": "\n \n = A title = \n \n"}
    made = [mixed_text(size % 60, seed=size) for size in range(count)]
    return between.get(separator, separator).join(made)


def documents_of(source):
    return [text for batch in source.documents() for text in batch.texts]


def in_documents(store):
    return [part.tolist() for part in np.split(store.span(0, store.tokens), store.ends[:-1])]


def reference(texts, tokenizer=None):
    """Each text's ids by `tokenizers` and one end-of-text, worked out text by text."""
    tokenizer = tokenizer or small_tokenizer()
    encoder = ReferenceEncoder(tokenizer)
    return [[*encoder.encode(Batch.of([text], False))[0].tolist(), tokenizer.eos_token_id] for text in texts]


# What is in it


@pytest.mark.parametrize("separator", SEPARATORS)
def test_no_token_is_lost(tmp_path, separator):
    source = file_source(write(tmp_path / "text.txt", text_with(separator)), separator)
    texts = documents_of(source)
    assert (len(texts) > 50) == (separator is not None)
    store = build(tmp_path / "store", source)
    assert in_documents(store) == reference(texts)
    assert store.tokens == len(store.span(0, store.tokens)) and store.ends[-1] == store.tokens


@pytest.mark.parametrize("chunk", [16, 90])
@pytest.mark.parametrize("separator", SEPARATORS)
def test_a_document_longer_than_a_chunk_has_the_ids_of_the_whole(tmp_path, monkeypatch, separator, chunk):
    source = file_source(write(tmp_path / "text.txt", text_with(separator)), separator)
    whole = build(tmp_path / "whole", source)
    monkeypatch.setattr(packed, "CHUNK_BYTES", chunk)
    batches = list(source.documents())
    assert any(batch.continues for batch in batches) and len(batches) > 5
    pieces = build(tmp_path / "pieces", source)
    assert in_documents(pieces) == in_documents(whole)
    assert pieces.totals == whole.totals


def test_files_can_be_worked_out_by_hand(tmp_path):
    tok = wide_tokenizer(300)  # nothing merges: an id a byte
    store = build(tmp_path / "store", Texts(lambda: [["ab", "a"], ["b"]]), tok)
    a, b, end = *tok.convert_tokens_to_ids(["a", "b"]), 299
    assert np.fromfile(tmp_path / "store/part-00000/tokens.bin", np.uint16).tolist() == [a, b, end, a, end, b, end]
    assert np.fromfile(tmp_path / "store/part-00000/lengths.bin", np.uint32).tolist() == [3, 2, 2]
    assert store.ends.tolist() == [3, 5, 7]
    counts = np.zeros(300, np.int64)
    counts[[a, b, end]] = 2, 2, 3
    assert np.fromfile(tmp_path / "store/part-00000/counts.bin", np.int64).tolist() == counts.tolist()
    assert store.counts.tolist() == np.bincount(store.span(0, store.tokens), minlength=300).tolist() == counts.tolist()
    assert (store.totals.tokens, store.totals.documents, store.totals.words, store.totals.bytes) == (7, 3, 3, 4)
    assert store.end_of_text == end and store.vocab_size == 300


@pytest.mark.parametrize(("vocab_size", "dtype"), [(65_536, np.uint16), (65_537, np.uint32)])
def test_ids_take_two_bytes_as_long_as_they_fit(tmp_path, vocab_size, dtype):
    tok = wide_tokenizer(vocab_size)
    store = build(tmp_path / "store", Texts(lambda: [["some", "words"]]), tok)
    assert store.span(0, store.tokens).dtype == dtype
    assert (tmp_path / "store/part-00000/tokens.bin").stat().st_size == 11 * np.dtype(dtype).itemsize
    assert in_documents(store) == reference(["some", "words"], tok)
    assert store.span(0, store.tokens)[-1] == vocab_size - 1 == store.end_of_text


SPACES = [chr(point) for point in range(sys.maxunicode + 1) if chr(point).isspace()]


@pytest.mark.parametrize(
    ("texts", "words", "size"),
    [
        (["one two", "three"], 3, 12),
        (["one\ntwo\r\nthree\n"], 3 + 3, 15),
        (["one\rtwo"], 2, 7),  # a lone carriage return is white space and no line end
        (["a\u3000b\u00a0c\u2028d\x1ce\x85f\u200bg"], 6, 7 + 3 + 2 + 3 + 1 + 2 + 3),  # U+200B is no white space
        ([" a ", "\u2003b", "c\x1f", "d\n", "\ne"], 5 + 2, 3 + 4 + 2 + 2 + 2),
        (["a" + space + "b" for space in SPACES], 2 * len(SPACES) + 1, sum(2 + len(s.encode()) for s in SPACES)),
        (["中文 字", "😀"], 3, 10 + 4),
    ],
)
def test_words_and_bytes(tmp_path, texts, words, size):
    store = build(tmp_path / "store", Texts(lambda: [texts]))
    assert (store.totals.words, store.totals.bytes, store.totals.documents) == (words, size, len(texts))
    assert words == sum(len(text.split()) + text.count("\n") for text in texts)
    assert size == sum(len(text.encode()) for text in texts)


@pytest.mark.parametrize("chunk", [16, 90, 8 << 20])
def test_words_and_bytes_of_difficult_text_however_it_is_read(tmp_path, monkeypatch, chunk):
    monkeypatch.setattr(packed, "CHUNK_BYTES", chunk)
    text = mixed_text(5_000, seed=1)
    store = build(tmp_path / "store", file_source(write(tmp_path / "text.txt", text)))
    assert store.totals.words == len(text.split()) + text.count("\n")
    assert store.totals.bytes == len(text.encode())
    assert store.totals.documents == 1


# Built once, and whole


def test_an_unchanged_text_is_not_read_again(tmp_path):
    source = file_source(write(tmp_path / "text.txt", "some text"))
    build(tmp_path / "store", source, fingerprint=source.fingerprint())
    again = file_source(tmp_path / "text.txt").fingerprint()
    assert build(tmp_path / "store", Unread(), fingerprint=again).totals.bytes == 9


@pytest.mark.parametrize("change", ["size", "time"])
def test_a_changed_text_is_read_again(tmp_path, change):
    path = write(tmp_path / "text.txt", "some text")
    source = file_source(path)
    before = source.fingerprint()
    build(tmp_path / "store", source, fingerprint=before)
    if change == "size":
        status = path.stat()
        write(path, "some more text")
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    else:
        write(path, "same size")
        os.utime(path, ns=(0, 1))
    source = file_source(path)
    assert source.fingerprint() != before
    store = build(tmp_path / "store", source, fingerprint=source.fingerprint())
    assert in_documents(store) == reference([path.read_text()])


@pytest.mark.parametrize("damage", [b"", b"{", b'{"other": 1}', None])
def test_a_store_without_its_description_is_built_again(tmp_path, damage):
    build(tmp_path / "store", Texts(lambda: [["some"]]))
    about = tmp_path / "store/store.json"
    about.unlink() if damage is None else about.write_bytes(damage)
    with pytest.raises(AssertionError, match="the text was read"):
        build(tmp_path / "store", Unread())
    assert build(tmp_path / "store", Texts(lambda: [["some"]])).totals.documents == 1


def test_verify_refuses_a_store_with_one_byte_flipped(tmp_path):
    source = file_source(write(tmp_path / "text.txt", text_with("line")), "line")
    build(tmp_path / "store", source)
    assert build(tmp_path / "store", source, verify=True).tokens > 0
    damaged = tmp_path / "store/part-00000/tokens.bin"
    data = bytearray(damaged.read_bytes())
    data[len(data) // 2] ^= 1
    damaged.write_bytes(data)
    assert build(tmp_path / "store", source).tokens > 0  # without verify nothing is read
    with pytest.raises(UserError, match=r"tokens\.bin: .*delete ") as caught:
        build(tmp_path / "store", source, verify=True)
    assert "\n" not in str(caught.value)
    assert only_store_and_lock(tmp_path)


def test_verify_refuses_a_store_of_another_text(tmp_path):
    build(tmp_path / "store", Texts(lambda: [["some text"]]))
    with pytest.raises(UserError, match=r"some texts.*delete ") as caught:
        build(tmp_path / "store", Texts(lambda: [["same size"]]), verify=True)
    assert "\n" not in str(caught.value)
    assert build(tmp_path / "store", Unread()).totals.bytes == 9


def only_store_and_lock(folder, store=True):
    """No trace of a build that wasn't finished."""
    there = {path.name for path in folder.iterdir()} - {"text.txt", "validation.txt"}
    return there - {"store.lock"} == ({"store"} if store else set())


class Broken(Exception):
    pass


@pytest.mark.parametrize("error", [UserError("a bad line"), Broken(), KeyboardInterrupt()])
def test_a_text_that_fails_half_way_leaves_nothing(tmp_path, error):
    def batches():
        yield ["some text"]
        yield ["more text"]
        raise error

    with pytest.raises(type(error)):
        build(tmp_path / "store", Texts(batches))
    assert only_store_and_lock(tmp_path, store=False)


def test_a_text_that_fails_leaves_the_store_of_before(tmp_path):
    def batches():
        yield ["some text"]
        raise UserError("a bad line")

    build(tmp_path / "store", Texts(lambda: [["of before"]]))
    with pytest.raises(UserError):
        build(tmp_path / "store", Texts(batches), fingerprint={"version": 2})
    assert only_store_and_lock(tmp_path)
    assert build(tmp_path / "store", Unread()).totals.bytes == 9


def test_no_text_is_refused(tmp_path):
    with pytest.raises(UserError, match="some texts: holds no text"):
        build(tmp_path / "store", Texts(lambda: []))
    assert only_store_and_lock(tmp_path, store=False)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("words", [1, 1_000_000])
@pytest.mark.parametrize("name", ["tokens.bin", "lengths.bin", "counts.bin"])
def test_a_full_disk_is_said_in_one_line(tmp_path, monkeypatch, name, words):
    """Whichever file it is, and however little doesn't fit."""
    mkdir = Path.mkdir

    def mkdir_with_a_full_file(folder, *args, **kwargs):
        mkdir(folder, *args, **kwargs)
        if folder.name.startswith("store.tmp-"):
            (folder / name).symlink_to("/dev/full")

    monkeypatch.setattr(Path, "mkdir", mkdir_with_a_full_file)
    with pytest.raises(MachineError, match="the disk is full; free some space or set another cache_dir") as caught:
        build(tmp_path / "store", Texts(lambda: [["word"] * words]))
    assert "\n" not in str(caught.value) and str(tmp_path) in str(caught.value)
    assert only_store_and_lock(tmp_path, store=False)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 256 KiB, where we may make one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
    if not hasattr(os, "geteuid") or os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("needs the right to mount a small file system")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_disk_that_fills_up_half_way(small_disk):
    batch = [mixed_text(100, seed=seed) for seed in range(100)]
    build(small_disk / "store", Texts(lambda: [batch]))
    with pytest.raises(MachineError, match="the disk is full"):
        build(small_disk / "store", Texts(lambda: [batch] * 50), fingerprint={"version": 2})
    assert only_store_and_lock(small_disk)
    assert build(small_disk / "store", Unread()).totals.documents == 100


def test_other_faults_of_the_disk_are_not_called_a_full_one(tmp_path):
    def batches():
        yield ["some text"]
        raise OSError(errno.EIO, "Input/output error")

    with pytest.raises(OSError, match="Input/output error"):
        build(tmp_path / "store", Texts(batches))


# Processes

CHILD = textwrap.dedent("""
    import os, sys, time
    from pathlib import Path
    from clm.data.store.token_store import open_or_build
    from tests.data.small import Texts, wide_tokenizer

    folder, number, pause = Path(sys.argv[1]), sys.argv[2], float(sys.argv[3])

    def batches():
        (folder / f"read-by-{number}").touch()
        for batch in range(20):
            yield [f"text {batch}"] * 1_000
        (folder / f"half-way-{number}").touch()
        time.sleep(pause)
        yield ["the end"]

    tokenizer = wide_tokenizer(300)
    (folder / f"ready-{number}").touch()
    while not (folder / "go").exists():
        time.sleep(0.001)
    print(open_or_build(folder / "cache" / "store", Texts(batches), tokenizer, {"version": 1}).tokens)
""")


def start(folder, number, pause):
    command = [sys.executable, "-c", CHILD, str(folder), str(number), str(pause)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


def wait_for(*paths):
    until = time.monotonic() + 120
    while not all(path.exists() for path in paths):
        assert time.monotonic() < until, paths
        time.sleep(0.01)


TOKENS = 10 * len("text 0") * 1_000 + 10 * len("text 10") * 1_000 + len("the end") + 20_001


def test_two_processes_build_a_store_once(tmp_path):
    both = [start(tmp_path, number, pause=0.5) for number in (1, 2)]
    wait_for(tmp_path / "ready-1", tmp_path / "ready-2")
    (tmp_path / "go").touch()
    assert [int(process.communicate(timeout=120)[0]) for process in both] == [TOKENS, TOKENS]
    assert len(list(tmp_path.glob("read-by-*"))) == 1
    assert only_store_and_lock(tmp_path / "cache")


def test_a_killed_build_leaves_nothing_that_is_taken(tmp_path):
    (tmp_path / "go").touch()
    killed = start(tmp_path, 1, pause=600)
    wait_for(tmp_path / "half-way-1")
    killed.send_signal(signal.SIGKILL)
    killed.communicate(timeout=60)
    assert not (tmp_path / "cache/store").exists() and not only_store_and_lock(tmp_path / "cache", store=False)
    again = start(tmp_path, 2, pause=0)
    assert int(again.communicate(timeout=120)[0]) == TOKENS
    assert only_store_and_lock(tmp_path / "cache")
    assert (tmp_path / "read-by-2").exists()


# Parts


def many_files(folder, files=7):
    """Text files of mixed documents, one of them without any."""
    folder.mkdir()
    for number in range(files):
        text = "\n".join(mixed_text(30, seed=seed) for seed in range(number * 10, number * 10 + 10))
        (folder / f"{number}.txt").write_bytes((text if number != 3 else " \n").encode())
    return folder


@pytest.mark.parametrize("workers", [1, 2])
def test_many_files_become_parts_that_read_as_one(tmp_path, monkeypatch, workers):
    folder = many_files(tmp_path / "texts")
    whole = build(tmp_path / "whole", file_source(folder, "line"))
    monkeypatch.setattr("clm.data.sources.files.PART_BYTES", 1)
    monkeypatch.setattr("clm.data.store.builder._workers", lambda parts: workers)
    parts = build(tmp_path / "parts", file_source(folder, "line"))
    assert len(whole.parts) == 1 and len(parts.parts) == 7 and parts.parts[3]["tokens"] == 0
    assert parts.totals == whole.totals and parts.ends.tolist() == whole.ends.tolist()
    assert parts.span(0, parts.tokens).tolist() == whole.span(0, whole.tokens).tolist()
    assert parts.counts.tolist() == whole.counts.tolist()
    starts = np.arange(parts.tokens - 50)
    assert (parts.gather(starts, 50) == whole.gather(starts, 50)).all()
    assert not [path.name for path in tmp_path.iterdir() if "tmp" in path.name or "parts." in path.name[:-5]]
    build(tmp_path / "parts", file_source(folder, "line"), verify=True)


def test_finished_parts_of_a_killed_build_are_kept_and_the_rest_is_built(tmp_path, monkeypatch):
    folder = many_files(tmp_path / "texts")
    monkeypatch.setattr("clm.data.sources.files.PART_BYTES", 1)
    monkeypatch.setattr("clm.data.store.builder._workers", lambda parts: 1)
    source, built = file_source(folder, "line"), []

    def write_and_die(staging, part, *how):
        if len(built) == 4:
            raise KeyboardInterrupt
        built.append(part.origin)
        write_part(staging, part, *how)

    monkeypatch.setattr("clm.data.store.builder.write_part", write_and_die)
    with pytest.raises(KeyboardInterrupt):
        build(tmp_path / "store", source)
    assert not (tmp_path / "store").exists()
    first, built = built, []
    monkeypatch.setattr(
        "clm.data.store.builder.write_part",
        lambda s, part, *how: (built.append(part.origin), write_part(s, part, *how)),
    )
    store = build(tmp_path / "store", source)
    assert len(first) == 4 and len(built) == 3 and not set(first) & set(built)
    assert store.tokens == build(tmp_path / "again", source).tokens


MACHINE = textwrap.dedent("""
    import sys
    from pathlib import Path
    from clm.data.sources import files
    from clm.data.store import builder, token_store
    from tests.data.small import wide_tokenizer

    files.PART_BYTES, builder._workers, built = 1, lambda parts: 1, []
    write = builder.write_part
    builder.write_part = lambda staging, part, *how: (built.append(part.origin), write(staging, part, *how))
    folder = Path(sys.argv[1])
    source = files.FileSource(sorted((folder / "texts").iterdir()), files.Reading("text", "line"), folder)
    where, tokenizer = folder / "cache" / "store", wide_tokenizer(300)
    store = token_store.open_or_build(where, source, tokenizer, {"version": 1}, say=lambda line: None)
    print(store.tokens, len(built))
""")


def test_two_machines_with_one_folder_share_the_parts(tmp_path):
    many_files(tmp_path / "texts", files=12)
    (tmp_path / "cache").mkdir()
    command = [sys.executable, "-c", MACHINE, str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    both = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate(timeout=120)[0].split() for process in both]
    assert said[0][0] == said[1][0] and sum(int(built) for _, built in said) == 12
    assert only_store_and_lock(tmp_path / "cache")


def test_a_bad_file_among_many_leaves_no_parts(tmp_path, monkeypatch):
    folder = many_files(tmp_path / "texts")
    (folder / "5.txt").write_bytes(b"good\nbad \xff\n")
    monkeypatch.setattr("clm.data.sources.files.PART_BYTES", 1)
    with pytest.raises(UserError, match=r"5\.txt: is not UTF-8 at byte 9"):
        build(tmp_path / "store", file_source(folder, "line"))
    assert not (tmp_path / "store").exists() and not (tmp_path / "store.parts").exists()


# Sizes that no memory holds


def sparse_store(folder, tokens):
    """A store of so many zeros that take no room on the disk, but for the numbers 1 … 100 at its end."""
    build(folder, Texts(lambda: [["a"]]))
    part = folder / "part-00000"
    with (part / "tokens.bin").open("wb") as file:
        file.truncate(2 * tokens)
        file.seek(2 * (tokens - 100))
        file.write(np.arange(1, 101, dtype=np.uint16).tobytes())
    (part / "lengths.bin").write_bytes(np.full(100, tokens // 100, np.uint32).tobytes())
    about = json.loads((folder / "store.json").read_text())
    about["parts"][0] |= {"tokens": tokens, "documents": 100}
    (folder / "store.json").write_text(json.dumps(about))
    return TokenStore(folder)


def test_116_million_windows_take_no_memory(tmp_path):
    store = sparse_store(tmp_path / "store", 116_944_985)
    tracemalloc.start()
    windows = Blocks(store, block_size=1024, sampling="windows")
    assert len(windows) == 116_943_961
    batch = windows.__getitems__(np.array([0, len(windows) - 1]))
    assert batch["labels"][1, -100:].tolist() == list(range(1, 101)) and not batch["labels"][0].any()
    order = EpochOrder(len(windows), batch_size=8, seed=1)
    order.start_at(epoch=3, first_batch=len(order) - 1)
    assert windows.__getitems__(next(iter(order)))["input_ids"].shape == (8, 1024)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 << 20


@pytest.mark.parametrize(("text", "warned"), [("one<|endoftext|>two", True), ("one two", False)])
def test_a_text_that_spells_out_end_of_text_is_remarked_on(tmp_path, text, warned):
    for _ in range(2):  # when it is built, and when it is found again
        said = build(tmp_path / "store", Texts(lambda: [[text]])).notes.lines
        assert bool(said) == warned and all("make it the document_separator" in line for line in said)
