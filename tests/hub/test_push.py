"""What is pushed, where it goes, and that nothing goes twice."""

import json
import shutil
import threading
import time
from pathlib import Path

import pytest
from huggingface_hub import HfApi, ModelCard

from clm.errors import UserError
from clm.hub import access
from clm.hub.push import push
from tests.hub_protocol import READ_TOKEN, WRITE_TOKEN

NAME = "tester/tiny"


def target(strategy: str = "end", **changes) -> access.Target:
    return access.Target(NAME, strategy=strategy, **changes)


def files(hub, branch: str = "main") -> dict[str, bytes]:
    repo = hub.repos["model", NAME]
    return repo.commits[repo.branches[branch]]


def folders(hub) -> set[str]:
    return {path.partition("/")[0] for path in files(hub, "checkpoints") if path.startswith("checkpoint-")}


def unfinish(out: Path = Path("out")) -> None:
    """As if the run were still going on."""
    status = json.loads((out / "run_status.json").read_text())
    (out / "run_status.json").write_text(json.dumps(status | {"state": "running", "exit_code": None}))


def uploads(hub) -> list[str]:
    return [request.path for request in hub.requests if request.method == "PUT" and request.status == 200]


def test_a_second_push_sends_nothing(hub, copy):
    push(access.client(), Path("out"), target("checkpoint"))
    assert len(uploads(hub)) == len(set(uploads(hub)))
    before = len(hub.requests)
    push(access.client(), Path("out"), target("checkpoint"))
    assert not [r for r in hub.requests[before:] if r.method == "PUT" or "/commit/" in r.path]


def test_the_kept_model_is_the_one_of_its_checkpoint_and_goes_once(hub, copy):
    unfinish()
    push(access.client(), Path("out"), target("checkpoint"))
    sent = len(uploads(hub))
    shutil.copytree(Path("out"), "again")
    status = Path("again/run_status.json")
    status.write_text(status.read_text().replace("running", "finished"))
    push(access.client(), Path("again"), target("checkpoint"))
    model = files(hub)["model.safetensors"]
    assert (
        model
        == Path("out/model.safetensors").read_bytes()
        == files(hub, "checkpoints")["checkpoint-4/model.safetensors"]
    )
    assert len(uploads(hub)) == sent


@pytest.mark.parametrize(
    ("strategy", "kept"),
    [("every_save", None), ("checkpoint", {"checkpoint-4"}), ("all_checkpoints", {"checkpoint-2", "checkpoint-4"})],
)
def test_each_strategy_keeps_its_checkpoints(hub, copy, strategy, kept):
    unfinish()
    shutil.move("out/checkpoint-4", "later")
    push(access.client(), Path("out"), target(strategy))
    shutil.move("later", "out/checkpoint-4")
    push(access.client(), Path("out"), target(strategy))
    assert "config.json" in files(hub) and not [name for name in files(hub) if "checkpoint" in name]
    if kept is None:
        assert set(hub.repos["model", NAME].branches) == {"main"}
    else:
        assert folders(hub) == kept
        assert (
            files(hub, "checkpoints")["checkpoint-4/optimizer.pt"] == Path("out/checkpoint-4/optimizer.pt").read_bytes()
        )


def test_checkpoints_of_later_steps_are_another_runs(hub, copy):
    unfinish()
    push(access.client(), Path("out"), target("all_checkpoints"))
    shutil.rmtree("out/checkpoint-4")
    push(access.client(), Path("out"), target("all_checkpoints"))
    assert folders(hub) == {"checkpoint-2"}


def test_an_unfinished_run_is_called_one_and_claims_nothing(hub, copy):
    push(access.client(), Path("out"), target("every_save"))
    assert {"eval_results.json", "explanation.json", "report.html", "trainer_state.json"} <= set(files(hub))
    assert ModelCard(files(hub)["README.md"].decode()).data.eval_results
    unfinish()
    said = push(access.client(), Path("out"), target("every_save"))
    assert "of a run that isn't finished" in said
    card = ModelCard(files(hub)["README.md"].decode())
    assert "**Not finished.** This is the model of step 4 of 4" in card.text
    assert card.data.eval_results is None and card.data.metrics is None and "unfinished" in card.data.tags
    assert set(files(hub)) == {
        *(".gitattributes", "README.md", "config.json", "generation_config.json", "model.safetensors"),
        *("tokenizer.json", "tokenizer_config.json", "recipe.json", "data.json", "environment.json"),
    }


def test_an_unfinished_run_shows_its_best_model_so_far(hub, copy):
    unfinish()
    state = json.loads(Path("out/checkpoint-4/trainer_state.json").read_text())
    Path("out/checkpoint-4/trainer_state.json").write_text(json.dumps(state | {"best_global_step": 2}))
    push(access.client(), Path("out"), target("every_save"))
    assert files(hub)["model.safetensors"] == Path("out/checkpoint-2/model.safetensors").read_bytes()
    assert "This is the model of step 2 of 4" in files(hub)["README.md"].decode()


def test_what_is_not_to_be_pushed_says_so(hub, copy):
    unfinish()
    with pytest.raises(UserError, match="the run isn't finished, and hub_strategy is end"):
        push(access.client(), Path("out"), target("end"))
    optimizer = Path("out/checkpoint-4/optimizer.pt")
    optimizer.write_bytes(optimizer.read_bytes()[:-1] + b"?")
    with pytest.raises(UserError, match=r"checkpoint-4 isn.t pushed: optimizer\.pt"):
        push(access.client(), Path("out"), target("checkpoint"))
    assert not folders(hub)
    assert not list(Path("out").glob(".push-*"))


def test_a_checkpoint_that_is_deleted_while_it_is_uploaded_arrives_whole(hub, copy):
    unfinish()
    expected = {path.name: path.read_bytes() for path in Path("out/checkpoint-4").iterdir()}
    hub.fail(r"/preupload/checkpoints", delay=0.5)
    thread = threading.Thread(target=push, args=(access.client(), Path("out"), target("checkpoint")))
    thread.start()
    while not [request for request in hub.requests if "/tree/checkpoints" in request.path]:
        time.sleep(0.005)
    shutil.rmtree("out/checkpoint-4")
    thread.join()
    branch = files(hub, "checkpoints")
    assert {name: branch[f"checkpoint-4/{name}"] for name in expected} == expected


def test_branches_and_privacy_are_as_asked(hub, copy):
    push(access.client(), Path("out"), target("checkpoint", branch="v2", private=True))
    repo = hub.repos["model", NAME]
    assert repo.private and set(repo.branches) == {"main", "v2", "v2-checkpoints"}
    assert "model.safetensors" in files(hub, "v2") and "model.safetensors" not in files(hub, "main")


def test_a_card_that_somebody_has_edited_stays_as_it_is(hub, copy):
    push(access.client(), Path("out"), target())
    assert f'model="{NAME}"' in files(hub)["README.md"].decode()
    edited = Path("out/README.md").read_text().replace("license: unknown", "license: mit")
    Path("out/README.md").write_text(edited)
    push(access.client(), Path("out"), target())
    assert files(hub)["README.md"].decode() == edited


def test_a_token_that_may_only_read_is_found_where_the_repository_is_there_already(hub, copy):
    api = HfApi(endpoint=hub.url, token=READ_TOKEN)
    hub.add_repo("model", NAME)
    with pytest.raises(UserError, match=f"the Hub refuses {NAME} .* a token that may write is needed"):
        access.open_repository(api, target())


def test_the_token_is_in_no_error(hub):
    assert (
        access.line(ValueError(f"Illegal header value b'Bearer {WRITE_TOKEN}'")) == "Illegal header value b'Bearer ***'"
    )
    signed = access.line(ValueError("403 for url 'https://s3/key?X-Signature=secret' now"))
    assert signed == "403 for url 'https://s3/key' now"
