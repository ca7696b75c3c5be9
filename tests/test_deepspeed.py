"""DeepSpeed, in an environment of its own: its schema takes the accelerate file, and its ZeRO-2 trains as one process.

DEEPSPEED_VENV names a folder to keep that environment in; without it, it goes with pytest's other folders.
"""

import os
import site
import subprocess
import venv
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.tiny import ROOT, history, run, write_recipe

pytestmark = pytest.mark.slow
PACKAGES = ("deepspeed==0.19.8", "einops", "hjson", "msgpack", "ninja", "py-cpuinfo")
FILE = ("--config_file", str(ROOT / "recipes/accelerate/deepspeed_zero2.yaml"), "--num_processes", "2")
SCHEMA = """
import os
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils import DeepSpeedPlugin
from accelerate.utils.launch import prepare_deepspeed_cmd_env
from deepspeed.runtime.config import DeepSpeedConfig

args = _validate_launch_command(launch_command_parser().parse_args([*FILE, "run_clm.py"]))[0]
args.deepspeed_fields_from_accelerate_config = "zero_stage"
os.environ.update(prepare_deepspeed_cmd_env(args)[1])
config = DeepSpeedPlugin().deepspeed_config | {"train_micro_batch_size_per_gpu": 4, "gradient_accumulation_steps": 2}
del config["train_batch_size"]
assert DeepSpeedConfig(config).zero_optimization_stage == 2
try:
    DeepSpeedConfig(config | {"zero_optimization": {"stage": 7}})
except Exception as error:
    assert "less than or equal to 3" in str(error), error
else:
    raise AssertionError("its schema takes anything")
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """The Python that has DeepSpeed beside this environment's packages."""
    folder = Path(os.environ.get("DEEPSPEED_VENV") or tmp_path_factory.mktemp("deepspeed") / "venv").absolute()
    if not (folder / PACKAGES[0]).exists():
        venv.create(folder, with_pip=True, clear=True)
        there = next((folder / "lib").glob("python*/site-packages"))
        (there / "beside.pth").write_text("\n".join(site.getsitepackages()) + "\n")
        pip = [folder / "bin/python", "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-deps"]
        installed = subprocess.run([*pip, *PACKAGES], env={**os.environ, "DS_BUILD_OPS": "0"})
        if installed.returncode:
            pytest.skip("DeepSpeed doesn't install here")
        (folder / PACKAGES[0]).touch()
    return str(folder / "bin/python")


def of(python: str, *words: str) -> subprocess.CompletedProcess:
    here = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu", "ACCELERATE_USE_CPU": "true"}
    return subprocess.run([python, *words], env={**os.environ, **here}, capture_output=True, text=True, timeout=400)


def test_deepspeeds_own_schema_takes_the_file(python, workplace):
    done = of(python, "-c", f"FILE = {FILE!r}\n{SCHEMA}")
    assert done.returncode == 0, done.stderr


def test_zero2_trains_as_one_process(python, workplace):
    write_recipe(
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        gradient_accumulation_steps=None,
        global_batch_size=24,
        optim="adamw_torch",
        save_strategy="no",
        load_best_model_at_end=False,
    )
    assert run("--output_dir", "one") == 0
    launch = ("-m", "accelerate.commands.launch", *FILE, str(ROOT / "tests/deepspeed_on_gloo.py"))
    done = of(python, *launch, "--config", "tiny.json")
    assert done.returncode == 0, done.stdout + done.stderr
    for key in ("loss", "eval_loss"):
        assert history("out", key) == pytest.approx(history("one", key), abs=1e-5)
    ours, theirs = (load_file(f"{folder}/model.safetensors") for folder in ("out", "one"))
    assert ours.keys() == theirs.keys()
    assert all(torch.allclose(ours[name], theirs[name], rtol=0, atol=1e-4) for name in ours)
