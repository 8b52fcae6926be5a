# On the CPU:       docker build -t fmawsss . && docker run --rm --ipc=host -u "$(id -u):$(id -g)" -v "$PWD:/work" fmawsss train
# On an NVIDIA GPU: the same image with `docker run --gpus all`, or with a build of torch for your driver:
#                   docker build -t fmawsss --build-arg TORCH_INDEX=URL .
# A page of it:     docker run … -p 127.0.0.1:7860:7860 fmawsss infer task=demo job.host=0.0.0.0
# `--ipc=host` gives loader processes more than the 64 MB of shared memory that containers have, `-u` makes results your own.
FROM python:3.11-slim

# Where torch comes from: empty takes pip's own; the selector on https://pytorch.org/get-started/locally/ names the others,
# of which the one for CPUs is the smallest
ARG TORCH_INDEX=
RUN pip install --no-cache-dir ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} torch torchvision

COPY . /source
RUN pip install --no-cache-dir "/source[networks,coco,demo,serve,export]" && rm -r /source

# A user whom `-u` names has neither a name nor a home in here, and libraries ask for both
ENV USER=fmawsss HOME=/tmp

# `data/`, `weights/` and `outputs/` lie in the folder that is mounted here
WORKDIR /work
ENTRYPOINT ["fmawsss"]
CMD ["--help"]
