# On the CPU:       docker build -t fmawsss . && docker run --rm -v "$PWD:/work" fmawsss train
# On an NVIDIA GPU: the same image with `docker run --gpus all`, or with a build of torch for your driver:
#                   docker build -t fmawsss --build-arg TORCH_INDEX=URL .
FROM python:3.11-slim

# Where torch comes from: empty takes pip's own; the selector on https://pytorch.org/get-started/locally/ names the others,
# of which the one for CPUs is the smallest
ARG TORCH_INDEX=
RUN pip install --no-cache-dir ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} torch torchvision

COPY . /source
RUN pip install --no-cache-dir "/source[networks,demo,export]" && rm -r /source

# `data/`, `weights/` and `outputs/` lie in the folder that is mounted here
WORKDIR /work
ENTRYPOINT ["fmawsss"]
CMD ["--help"]
