"""Ways to launch a run: accelerate takes their files, Slurm's script does what it says, and wrong ones are refused."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils import DistributedType
from accelerate.utils.launch import prepare_multi_gpu_env

from clm.errors import UserError
from clm.launch import preflight
from tests.tiny import ROOT, launch, write_recipe

FOLDER = ROOT / "recipes/accelerate"
FILES = sorted(FOLDER.glob("*.yaml"))
SLURM = FOLDER / "slurm.sh"


def launch_line(file: Path) -> list[str]:
    """The words of the first `accelerate launch` in a file's comments."""
    comments = "\n".join(re.findall(r"^#(.*)$", file.read_text(), re.MULTILINE)).replace("\\\n", " ")
    return shlex.split(next(line for line in comments.split("\n") if "accelerate launch" in line))


# The accelerate files


def test_the_files_are_those_of_the_issue():
    assert [file.stem for file in FILES] == ["ddp", "deepspeed_zero2", "fsdp2", "multi_node"]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_accelerate_takes_the_file_and_the_line_in_it(file):
    kinds = {"fsdp2": DistributedType.FSDP, "deepspeed_zero2": DistributedType.DEEPSPEED}
    config = load_config_from_file(str(file))
    assert config.distributed_type == kinds.get(file.stem, DistributedType.MULTI_GPU)
    assert config.mixed_precision is None  # it is the recipe's
    words = launch_line(file)
    assert words[:2] == ["accelerate", "launch"]
    args, defaults, _ = _validate_launch_command(launch_command_parser().parse_args(words[2:]))
    assert ROOT / args.config_file == file and args.training_script == "run_clm.py"
    assert args.num_processes == defaults.num_processes and args.num_machines == defaults.num_machines
    recipe = args.training_script_args[args.training_script_args.index("--config") + 1]
    assert (ROOT / recipe).is_file()


def test_the_fsdp_file_asks_for_fsdp2(monkeypatch):
    words = launch_line(FOLDER / "fsdp2.yaml")
    monkeypatch.chdir(ROOT)
    args, _, _ = _validate_launch_command(launch_command_parser().parse_args(words[2:]))
    environment = prepare_multi_gpu_env(args)
    assert environment["ACCELERATE_USE_FSDP"] == "true" and environment["FSDP_VERSION"] == "2"
    assert environment["FSDP_TRANSFORMER_CLS_TO_WRAP"] == "GPT2Block"
    assert environment["FSDP_RESHARD_AFTER_FORWARD"] == "true"
    assert environment["FSDP_CPU_RAM_EFFICIENT_LOADING"] == "false"


# What is refused


@pytest.mark.parametrize(
    ("environment", "device", "says"),
    [
        ({"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"}, "cpu", "DDP on a machine without GPUs and not say so"),
        ({"ACCELERATE_USE_DEEPSPEED": "true"}, "cpu", "asks for DeepSpeed, which accelerate would run as DDP"),
        ({"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "1"}, "cuda", "set fsdp_version: 2"),
        ({"ACCELERATE_USE_FSDP": "true"}, "cuda", "set fsdp_version: 2"),
        ({"ACCELERATE_USE_MEGATRON_LM": "true"}, "cuda", "Megatron-LM"),
        ({"ACCELERATE_USE_DEEPSPEED": "true", "ACCELERATE_DEEPSPEED_ZERO_STAGE": "3"}, "cuda", "ZeRO-3"),
        ({"ACCELERATE_USE_DEEPSPEED": "true", "ACCELERATE_DEEPSPEED_ZERO_STAGE": "2"}, "cuda", "--save_strategy no"),
    ],
)
def test_engines_that_would_be_others_are_refused(monkeypatch, environment, device, says):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    args = SimpleNamespace(device=SimpleNamespace(type=device), save_strategy="steps")
    with pytest.raises(UserError, match=says) as caught:
        preflight.check_engine(args)
    assert "\n" not in str(caught.value) and "recipes/accelerate/" in str(caught.value)


def test_fsdp2_on_gpus_is_not_refused(monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    monkeypatch.setenv("FSDP_VERSION", "2")
    preflight.check_engine(SimpleNamespace(device=SimpleNamespace(type="cuda"), save_strategy="steps"))


def test_an_fsdp_file_on_a_cpu_is_refused_by_the_program(workplace):
    file = ("--config_file", str(FOLDER / "fsdp2.yaml"), "--num_processes", "2")
    done = launch(*file, str(ROOT / "run_clm.py"), "--config", "tiny.json")
    assert done.returncode != 0 and done.stderr.count("the accelerate file asks for FSDP, which") == 1
    assert not Path("out").exists()


def test_a_file_for_two_processes_that_starts_one_is_refused(workplace):
    Path("two.yaml").write_text("distributed_type: 'NO'\nuse_cpu: true\nnum_processes: 2\nnum_machines: 1\n")
    done = launch("--config_file", "two.yaml", str(ROOT / "run_clm.py"), "--config", "tiny.json")
    assert done.returncode != 0 and "2 processes were asked for, but the launcher started one" in done.stderr


def test_the_users_default_file_is_named_and_its_precision_refused(workplace):
    default = Path("home/accelerate/default_config.yaml")
    default.parent.mkdir(parents=True)
    content = "distributed_type: 'NO'\nnum_processes: 1\nuse_cpu: true\n"
    default.write_text(content)
    words = (str(ROOT / "run_clm.py"), "--config", "tiny.json", "--max_steps", "1")
    done = launch(*words, HF_HOME=str(Path("home").resolve()))
    assert done.returncode == 0 and f"accelerate file: {default.resolve()}, processes: 1" in done.stdout
    default.write_text(content + "mixed_precision: bf16\n")
    done = launch(*words, HF_HOME=str(Path("home").resolve()))
    assert done.returncode != 0 and "precision is the recipe's, take mixed_precision out" in done.stderr


@pytest.mark.parametrize("others_see_it", [True, False])
def test_an_output_dir_that_machines_do_not_share_is_refused(tmp_path, monkeypatch, others_see_it):
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "1")
    monkeypatch.setattr(preflight, "PartialState", lambda: SimpleNamespace(num_processes=2, is_main_process=True))
    monkeypatch.setattr(preflight.distributed, "broadcast_object_list", lambda _: None)
    monkeypatch.setattr(preflight, "gather_object", lambda ours: [*ours, (others_see_it, "the-second")])
    if others_see_it:
        preflight.check_shared(tmp_path / "out")
    else:
        with pytest.raises(UserError, match="the-second doesn't see what the first one writes; put it on a disk"):
            preflight.check_shared(tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


# Slurm

SRUN = '#!/bin/bash\n[ "$1" = --kill-on-bad-exit=1 ] || exit 9\nshift\nSLURM_NODEID=0 exec "$@"\n'
SCONTROL = '#!/bin/bash\necho "$@" >> scontrol.log\n[ "$1" = show ] && printf "first\\nsecond\\n"\nexit 0\n'
# A launcher whose run takes a while, and saves and stops when it is asked to.
ACCELERATE = """#!/bin/bash
echo "$@" > accelerate.log
while [ $# -gt 1 ]; do [ "$1" = --output_dir ] && out="$2"; shift; done
mkdir -p "$out"
trap 'echo "{\\"exit_code\\": 75}" > "$out/run_status.json"; exit 1' TERM
for _ in $(seq ${SECONDS_TO_RUN:-0}0); do sleep 0.1; done
echo '{"exit_code": '${CODE:-0}'}' > "$out/run_status.json"
[ ${CODE:-0} = 0 ]
"""


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """A folder to submit from, and a Slurm that does what it is told on this machine."""
    monkeypatch.chdir(tmp_path)
    commands = tmp_path / "bin"
    commands.mkdir()
    for name, text in {"srun": SRUN, "scontrol": SCONTROL, "accelerate": ACCELERATE}.items():
        (commands / name).write_text(text)
        (commands / name).chmod(0o755)
    environment = {
        "PATH": f"{commands}:{os.environ['PATH']}",
        "SLURM_JOB_NAME": "clm",
        "SLURM_JOB_ID": "123456",
        "SLURM_JOB_NODELIST": "node[1-2]",
        "SLURM_NNODES": "2",
        "SLURM_GPUS_ON_NODE": "8",
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return tmp_path


def submitted(*words: str, ask_to_stop: bool = False, **environment: str) -> subprocess.CompletedProcess:
    job = subprocess.Popen([str(SLURM), *words], env={**os.environ, **environment}, stdout=-1, stderr=-1, text=True)
    if ask_to_stop:
        until = time.monotonic() + 60
        while not Path("accelerate.log").exists() or not Path("runs").exists():
            assert time.monotonic() < until
            time.sleep(0.05)
        time.sleep(0.5)
        job.send_signal(signal.SIGUSR1)
    out, error = job.communicate(timeout=60)
    return subprocess.CompletedProcess(words, job.returncode, out, error)


def requeued() -> bool:
    return "requeue 123456" in Path("scontrol.log").read_text()


def test_the_script_of_slurm_is_bash():
    assert subprocess.run(["bash", "-n", str(SLURM)], capture_output=True).returncode == 0
    assert os.access(SLURM, os.X_OK)


def test_slurm_launches_one_launcher_a_machine(cluster):
    done = submitted("--config", "recipes/wt103.json")
    assert done.returncode == 0, done.stderr
    words = Path("accelerate.log").read_text().split()
    args = launch_command_parser().parse_args(words[1:])
    assert args.config_file == "recipes/accelerate/multi_node.yaml"
    assert (args.num_machines, args.num_processes, args.machine_rank) == (2, 16, 0)
    assert (args.main_process_ip, args.main_process_port) == ("first", 23456)
    assert args.training_script == "run_clm.py"
    assert args.training_script_args == ["--config", "recipes/wt103.json", "--output_dir", "runs/clm"]
    assert not requeued()


def test_every_task_of_an_array_has_its_own_seed_and_folder(cluster):
    assert submitted("--config", "a.json", SLURM_ARRAY_TASK_ID="3").returncode == 0
    assert Path("accelerate.log").read_text().endswith("--config a.json --seed 3 --output_dir runs/clm-3\n")
    assert Path("runs/clm-3/run_status.json").exists()


def test_a_job_that_is_asked_to_stop_goes_back_into_the_queue(cluster):
    done = submitted("--config", "a.json", ask_to_stop=True, SECONDS_TO_RUN="30")
    assert done.returncode == 0 and "back into the queue" in done.stdout, done
    assert requeued()


@pytest.mark.parametrize("code", ["2", "74", "1"])
def test_a_job_that_fails_does_not_go_back_into_the_queue(cluster, code):
    done = submitted("--config", "a.json", CODE=code)
    assert done.returncode == 1 and not requeued()


@pytest.mark.slow
def test_a_real_run_under_slurm_is_requeued_and_goes_on(cluster, monkeypatch):
    from tests.tiny import make_text

    (cluster / "bin/accelerate").unlink()
    (cluster / "bin/accelerate").symlink_to(Path(sys.executable).parent / "accelerate")
    for name in ("run_clm.py", "clm", "recipes"):
        Path(name).symlink_to(ROOT / name)
    Path("text.txt").write_text(make_text(), "utf-8")
    write_recipe(max_steps=100_000, save_steps=100_000, eval_steps=100_000)
    here = {
        "SLURM_NNODES": "1",
        "SLURM_GPUS_ON_NODE": "2",
        "ACCELERATE_USE_CPU": "true",
        "OMP_NUM_THREADS": "1",
        "ACCELERATE_FILE": "recipes/accelerate/ddp.yaml",
    }
    (cluster / "bin/scontrol").write_text(SCONTROL.replace("first\\nsecond", "127.0.0.1"))
    log = Path("log.txt").open("w")  # noqa: SIM115
    job = subprocess.Popen([str(SLURM), "--config", "tiny.json"], env={**os.environ, **here}, stdout=log, stderr=log)
    until = time.monotonic() + 120
    while "step 5/" not in Path("log.txt").read_text():
        assert time.monotonic() < until and job.poll() is None, Path("log.txt").read_text()
        time.sleep(0.1)
    job.send_signal(signal.SIGUSR1)
    assert job.wait(60) == 0 and requeued(), Path("log.txt").read_text()
    status = json.loads(Path("runs/clm/run_status.json").read_text())
    assert (status["state"], status["exit_code"]) == ("stopped", 75)
    step = max(int(path.name.split("-")[1]) for path in Path("runs/clm").glob("checkpoint-*"))
    again = submitted("--config", "tiny.json", "--max_steps", str(step + 2), **here)
    assert again.returncode == 0, again
    assert f"resuming from runs/clm/checkpoint-{step}" in again.stdout and f"step {step + 2}/" in again.stdout


# The container


def test_the_container_has_what_a_run_needs():
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    copied = [word for line in lines if line.startswith("COPY") for word in line.split()[1:-1]]
    assert {"clm", "recipes", "tokenizer", "run_clm.py", "requirements.txt"} <= set(copied)
    assert all((ROOT / name).exists() for name in copied)
    installed = {word for line in lines if "apt-get install" in line for word in line.split()}
    assert {"gcc", "libc6-dev"} <= installed  # Triton compiles with them; torch.compile and Liger need it
    entry, command = (json.loads(line.split(maxsplit=1)[1]) for line in lines if line[:5] in ("ENTRY", "CMD ["))
    assert entry == ["python", "run_clm.py"] and (ROOT / command[-1]).is_file()
