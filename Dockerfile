# The same versions in a container, for clouds and clusters. PyPI's torch brings CUDA with it; the host needs the driver
# and NVIDIA's container toolkit.
#   docker build -t clm .
#   docker run --gpus 1 -v clm-runs:/clm/runs -v clm-cache:/clm/.cache clm --config recipes/wt103.json
# On 8 GPUs; --ipc=host is for NCCL, which shares memory between processes:
#   docker run --gpus all --ipc=host -v clm-runs:/clm/runs -v clm-cache:/clm/.cache --entrypoint accelerate clm \
#     launch --config_file recipes/accelerate/ddp.yaml --num_processes 8 run_clm.py --config recipes/wt103.json
# `docker stop -t 60` saves and stops; the same line goes on.
FROM python:3.11-slim
# Triton, which torch.compile writes kernels for, compiles its launchers in C against Python's headers (the image's own).
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*
WORKDIR /clm
COPY requirements.txt ./
RUN pip install --no-cache-dir -r requirements.txt
COPY run_clm.py accelerate_config.yaml ./
COPY clm clm
COPY recipes recipes
COPY tokenizer tokenizer
# Not through a launcher, which as process 1 would never be told to stop.
ENTRYPOINT ["python", "run_clm.py"]
CMD ["--config", "recipes/quickstart.json"]
