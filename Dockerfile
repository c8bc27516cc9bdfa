# scripts.segment in a container, with the weights of the bundle. For an NVIDIA GPU: --build-arg BUILD=cuda and --gpus all.
#   docker build --tag agscl .
#   docker run --rm --network none --user "$(id -u)" --volume "$PWD":/data agscl SCAN --output_dir OUT
FROM python:3.12-slim
ARG BUILD=cpu
WORKDIR /bundle
COPY requirements.txt ./
# PyPI's torch for Linux is the CUDA build; that of the CPU satisfies the same pin.
RUN case "$BUILD" in \
      cpu) pip install --no-cache-dir --index-url https://download.pytorch.org/whl/cpu "$(grep '^torch==' requirements.txt)" ;; \
      cuda) ;; \
      *) echo "BUILD is '$BUILD': give cpu or cuda" >&2; exit 1 ;; \
    esac \
 && pip install --no-cache-dir --requirement requirements.txt
COPY LICENSE ./
COPY configs ./configs
COPY models ./models
COPY scripts ./scripts
# Any user may run it: caches go where everybody may write.
ENV PYTHONPATH=/bundle HOME=/tmp OMP_WAIT_POLICY=passive
WORKDIR /data
ENTRYPOINT ["python", "-P", "-m", "scripts.segment"]
