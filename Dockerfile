# Build:  docker build --tag trtcal .                              with TensorRT 10, which has calibrators
#         docker build --tag trtcal:11 --build-arg TENSORRT=11 .   with TensorRT 11, which has none: INT8 by Q/DQ nodes
# Run:    docker run --rm --gpus all trtcal                        what can be done here
#         docker run --rm --gpus all --user "$(id -u):$(id -g)" --volume "$PWD:/data" trtcal \
#             build model.onnx --images images --preprocess imagenet -o model.engine
ARG TENSORRT=10

# TensorRT 10.9, CUDA 12.8, Python 3.12
FROM nvcr.io/nvidia/tensorrt:25.03-py3 AS tensorrt-10
ENV CUDA_BINDINGS="cuda-bindings>=12.6,<13"

# TensorRT 11.0, CUDA 13
FROM nvcr.io/nvidia/tensorrt:26.06-py3 AS tensorrt-11
ENV CUDA_BINDINGS="cuda-bindings>=13,<14"

# hadolint ignore=DL3006
FROM tensorrt-${TENSORRT}

# The image's own TensorRT stays: the extra [tensorrt] would put another one over it.
ENV PIP_BREAK_SYSTEM_PACKAGES=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /opt/trtcal
COPY pyproject.toml README.md LICENSE ./
COPY calibrators calibrators
COPY engines engines
COPY trtcal trtcal
# hadolint ignore=DL3013
RUN python3 -m pip install ".[demo]" "${CUDA_BINDINGS}"

# Any user may run it, so that what it writes belongs to who started it.
ENV HOME=/home/trtcal NUMBA_CACHE_DIR=/tmp/numba
RUN useradd --create-home --uid 10001 trtcal \
    && chmod 0777 /home/trtcal \
    && install --directory --owner=trtcal --group=trtcal /data
USER 10001
WORKDIR /data
ENTRYPOINT ["trtcal"]
CMD ["doctor"]
