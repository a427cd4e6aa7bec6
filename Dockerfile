# syntax=docker/dockerfile:1
# One image for every part of the service: `voxdex serve`, `voxdex worker`, `voxdex beat`, `voxdex db upgrade`.
#   docker build -t voxdex .
#   docker build -t voxdex --build-arg LOCK=milvus.lock .    with the client of a Milvus server (docs/milvus.md)
# To build on an exact base, give it with its digest: --build-arg PYTHON=python:3.11-slim-bookworm@sha256:...
ARG PYTHON=python:3.11-slim-bookworm

FROM ${PYTHON} AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 UV_NO_CACHE=1 UV_LINK_MODE=copy UV_PYTHON_DOWNLOADS=never
WORKDIR /build
# The installer has an environment of its own, so that it does not end up in the image.
ARG LOCK=run.lock
COPY requirements/bootstrap.lock requirements/run.lock requirements/milvus.lock requirements/node.lock requirements/
RUN python -m venv /opt/installer \
    && /opt/installer/bin/pip install --require-hashes -r requirements/bootstrap.lock \
    && python -m venv --without-pip /opt/voxdex
# The dependencies are a layer of their own: a change of the code does not install them again. They are compiled here,
# because the containers may write nothing beside them.
RUN VIRTUAL_ENV=/opt/voxdex /opt/installer/bin/uv pip install --compile-bytecode --only-binary :all: --require-hashes \
    -r requirements/${LOCK}
COPY pyproject.toml README.md LICENSE ./
COPY migrations migrations
COPY indexer indexer
COPY search search
COPY worker worker
COPY api api
RUN api/page/build /usr/local/bin/python build && rm -rf api/page/node_modules api/page/.node
# setuptools is in the lock, so nothing is fetched here. The client is what `voxdex jobs` and `--remote` call with.
RUN VIRTUAL_ENV=/opt/voxdex /opt/installer/bin/uv pip install --compile-bytecode --no-deps --no-build-isolation --offline \
    . ./api/client

FROM ${PYTHON} AS final
LABEL org.opencontainers.image.title="voxdex" \
      org.opencontainers.image.description="Speaker search over large audio archives" \
      org.opencontainers.image.licenses="Apache-2.0"
# A number, so that a platform which admits only users other than root can see it; fixed, so that volumes keep an owner.
RUN groupadd --gid 10001 voxdex \
    && useradd --uid 10001 --gid voxdex --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin voxdex \
    && install -d -o voxdex -g voxdex -m 0700 /var/lib/voxdex /var/lib/voxdex-media /var/cache/voxdex
COPY --from=build /opt/voxdex /opt/voxdex
ENV PATH=/opt/voxdex/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    VOXDEX_HOME=/var/lib/voxdex \
    VOXDEX_MEDIA__PATH=/var/lib/voxdex-media \
    VOXDEX_CACHE=/var/cache/voxdex \
    VOXDEX_API__HOST=0.0.0.0 \
    VOXDEX_API__PORT=8080
USER 10001:10001
WORKDIR /var/lib/voxdex
VOLUME ["/var/lib/voxdex", "/var/lib/voxdex-media", "/var/cache/voxdex"]
EXPOSE 8080
# Whether the API answers; the parts that are no API state their own check, or none, in docker-compose.yml.
HEALTHCHECK --interval=15s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as r; r.urlopen(f\"http://127.0.0.1:{os.environ['VOXDEX_API__PORT']}/healthz\", timeout=4).close()"]
# No shell in between: the program is process 1 and gets SIGTERM itself.
STOPSIGNAL SIGTERM
ENTRYPOINT ["voxdex"]
CMD ["serve"]
