# Build:  docker build --tag trtcal .
# Run:    docker run --rm --gpus all --volume "$PWD:/data" trtcal            (what this machine can do)
#         docker run --rm --gpus all --volume "$PWD:/data" trtcal calibrate model.onnx --images images -o model.cache
#
# 25.03 holds TensorRT 10.9, CUDA 12.8, Ubuntu 24.04 and Python 3.12. Any TensorRT image with Python 3.10 or newer will do as BASE.
ARG BASE=nvcr.io/nvidia/tensorrt:25.03-py3
FROM ${BASE}

# The image's own TensorRT stays: the extra [tensorrt] would put another one over it.
ENV PIP_BREAK_SYSTEM_PACKAGES=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /opt/trtcal
COPY pyproject.toml README.md LICENSE ./
COPY calibrators calibrators
COPY engines engines
COPY trtcal trtcal
RUN python3 -m pip install ".[demo]"

RUN useradd --create-home trtcal && install --directory --owner=trtcal --group=trtcal /data
USER trtcal
WORKDIR /data
ENTRYPOINT ["trtcal"]
CMD ["doctor"]
