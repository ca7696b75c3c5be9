"""Texts as people have them, through the real command: what is said, what is refused, and what the files hold."""

import json
import random
import zipfile
from pathlib import Path

from clm.__main__ import main as clm_main
from tests.tiny import make_text, run, write_recipe


def strict(path):
    """A JSON file as other readers take it."""

    def refuse(constant):
        raise AssertionError(f"{path}: {constant}")

    return json.loads(path.read_text("utf-8"), parse_constant=refuse)


def test_text_without_spaces_has_no_word_perplexity(workplace, capfd):
    chance = random.Random(0)
    lines = ["".join(chance.choices("天地玄黄宇宙洪荒日月盈昃辰宿列张", k=200)) for _ in range(30)]
    Path("text.txt").write_text("\n".join(lines), "utf-8")
    assert run("--max_steps", "2") == 0
    said = capfd.readouterr().out
    assert "left out: the text has less than one white-space word in 50 bytes" in said
    assert said.index("bits per byte") < said.index("perplexity  ")
    files = [*Path().rglob("out/**/*.json"), *Path().rglob(".cache/**/*.json")]
    assert {"eval_results.json", "all_results.json", "trainer_state.json"} <= {path.name for path in files}
    results = {path: strict(path) for path in files}
    metrics = results[Path("out/eval_results.json")]
    assert "word_perplexity" not in metrics and "word_perplexity" in metrics["left_out"]
    assert metrics["bits_per_byte"] > 0
    for page in ("out/report.html", "out/README.md"):
        assert "less than one white-space word" in Path(page).read_text("utf-8")
    assert clm_main(["evaluate", "--model", "out", "--text_file", "text.txt", "--output", "e.json"]) == 0
    assert "word perplexity left out: the text has less than one" in capfd.readouterr().out
    result = strict(Path("e.json"))
    assert "word_perplexity" not in {*result, *result["intervals_95"], *result["divided_by"]}


def test_what_was_noted_is_said_once(workplace, capfd):
    folder = Path("texts")
    folder.mkdir()
    (folder / "a.txt").write_text(make_text(30) + "the end<|endoftext|>\n")
    rows = [{"text": line} for line in make_text(20, seed=1).splitlines()] + [{"text": None}] * 3
    (folder / "b.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (folder / "c.csv").write_text("id;text\n" + "".join(f"{n};{line}\n" for n, line in enumerate(make_text(9).split())))
    with zipfile.ZipFile(folder / "d.zip", "w") as archive:
        archive.writestr("d.txt", make_text(9, seed=2).encode("utf-16"))
    (folder / "e.pdf").write_bytes(b"%PDF-")
    write_recipe(train_file="texts")
    for _ in range(2):  # the second start finds the stores
        assert run("--output_dir", "out", "--max_steps", "2", "--resume_from_checkpoint", "auto") == 0
        said = capfd.readouterr().out.replace(str(workplace), "")
        for line in (
            "train_file: the folder texts: left out: 1 .pdf (5 bytes) of a kind that isn't read\n",
            "'text' is null, and the row was left out: 3 times, first at /texts/b.jsonl, line 21\n",
            "/texts/c.csv: has semicolons between its columns, and was read so\n",
            "/texts/d.zip, d.txt: is UTF-16, and was read so\n",
            "spells out <|endoftext|>: if that is what ends its documents, make it the document_separator\n",
        ):
            assert said.count(line) == 1, (line, said)


def test_a_marker_in_both_splits_is_said_once(workplace, capfd):
    Path("text.txt").write_text(make_text().replace("\n", " <|endoftext|>\n"))
    assert run("--max_steps", "1") == 0
    assert "".join(capfd.readouterr()).count("spells out <|endoftext|>") == 1


def test_the_advice_for_another_encoding_works(workplace, capfd):
    words = ["le", "café", "était", "fermé", "à", "midi", "où", "les", "élèves", "préfèrent", "manger", "des", "crêpes"]
    lines = (" ".join(random.Random(number).choices(words, k=20)) for number in range(60))
    Path("text.txt").write_bytes("\n".join(lines).encode("cp1252"))
    assert run() == 2
    assert "cp1252, which reads" in (error := capfd.readouterr().err) and error.count("\n") == 1
    assert run("--text_encoding", "cp1252", "--max_steps", "2") == 0
    assert run("--text_encoding", "klingon") == 2
    assert 'text_encoding is "klingon"; it must be an encoding of text that Python knows' in capfd.readouterr().err
    evaluate = ["evaluate", "--model", "out", "--text_file", "text.txt"]
    assert clm_main(evaluate) == 2 and clm_main([*evaluate, "--text_encoding", "cp1252"]) == 0
    assert clm_main([*evaluate, "--csv_delimiter", "two"]) == 2
    assert "--csv_delimiter two: it must be one character, or tab" in capfd.readouterr().err


def test_one_long_line_is_trained_on(workplace, capfd):
    Path("text.txt").write_text("".join(random.Random(0).choices("ACGT", k=8_000)))
    assert run("--max_steps", "2") == 0
    assert "stretches of text" in capfd.readouterr().out
    Path("text.txt").write_text(make_text(60).replace("\n", "<|endoftext|>"))
    assert run("--output_dir", "other") == 2
    assert "set document_separator to <|endoftext|>" in capfd.readouterr().err
    assert run("--output_dir", "other", "--document_separator", "<|endoftext|>", "--max_steps", "2") == 0
