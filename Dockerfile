# An image per service: `docker build --target SERVICE .`, where SERVICE is datashare, scoring or gateway.
#
# Packages come from the package index. Where `make images` has filled build/wheels they come from
# there, and no index is asked. Either way each has a hash that its lock names.
#
# An image holds Python, one environment in /opt/puhui and nothing to install or compile with. It runs
# as a user without a name, on a root file system that may be read-only; what it writes is in the
# folders that its configuration names.

# The brackets make a pattern of it, which may match nothing.
FROM scratch AS downloaded
COPY buil[d]/ /

FROM python:3.11-slim-bookworm AS builder
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore PIP_QUIET=1
RUN python3 -m venv /opt/build && python3 -m venv --without-pip /opt/puhui
ENV PATH=/opt/build/bin:$PATH
RUN --mount=type=bind,from=downloaded,target=/downloaded \
    if [ -d /downloaded/wheels ]; then \
      printf '[global]\nno-index = true\nfind-links = /downloaded/wheels\n' >/etc/pip.conf; \
    fi

FROM builder AS project
RUN --mount=type=bind,from=downloaded,target=/downloaded \
    --mount=type=bind,source=requirements,target=/requirements \
    pip install --require-hashes --only-binary :all: -r /requirements/build.txt
COPY LICENSE README.md pyproject.toml hatch_build.py /project/
COPY proto /project/proto
COPY puhui_client /project/puhui_client
COPY services /project/services
RUN pip wheel --no-deps --no-build-isolation --wheel-dir /dist /project

FROM builder AS datashare-environment
RUN --mount=type=bind,from=downloaded,target=/downloaded \
    --mount=type=bind,source=requirements,target=/requirements \
    pip --python /opt/puhui install --require-hashes --only-binary :all: -r /requirements/datashare.txt
RUN --mount=type=bind,from=project,source=/dist,target=/dist \
    pip --python /opt/puhui install --no-deps /dist/*.whl

FROM builder AS scoring-environment
RUN --mount=type=bind,from=downloaded,target=/downloaded \
    --mount=type=bind,source=requirements,target=/requirements \
    pip --python /opt/puhui install --require-hashes --only-binary :all: -r /requirements/scoring.txt
RUN --mount=type=bind,from=project,source=/dist,target=/dist \
    pip --python /opt/puhui install --no-deps /dist/*.whl

FROM builder AS gateway-environment
RUN --mount=type=bind,from=downloaded,target=/downloaded \
    --mount=type=bind,source=requirements,target=/requirements \
    pip --python /opt/puhui install --require-hashes --only-binary :all: -r /requirements/gateway.txt
RUN --mount=type=bind,from=project,source=/dist,target=/dist \
    pip --python /opt/puhui install --no-deps /dist/*.whl

# The base's own pip goes, wherever it or Debian keeps it.
FROM python:3.11-slim-bookworm AS runtime
RUN rm -rf /usr/local/lib/python3.11/site-packages/* /usr/local/lib/python3.11/ensurepip \
      /usr/local/bin/pip* /usr/local/bin/wheel /usr/lib/python3.11/ensurepip /usr/share/python-wheels
# Byte code was compiled when it was installed. PYTHONSAFEPATH: nothing is imported from the working
# folder.
ENV PATH=/opt/puhui/bin:/usr/local/bin:/usr/bin:/bin \
    HOME=/tmp \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONSAFEPATH=1 \
    PYTHONUNBUFFERED=1
WORKDIR /
USER 10001:10001

FROM runtime AS datashare
LABEL org.opencontainers.image.title="puhui-datashare" org.opencontainers.image.licenses="Apache-2.0"
COPY --from=datashare-environment /opt/puhui /opt/puhui
EXPOSE 50051 9090
ENTRYPOINT ["python", "-m", "services", "datashare"]

FROM runtime AS scoring
LABEL org.opencontainers.image.title="puhui-scoring" org.opencontainers.image.licenses="Apache-2.0"
COPY --from=scoring-environment /opt/puhui /opt/puhui
EXPOSE 50051 9090
ENTRYPOINT ["python", "-m", "services", "scoring"]

FROM runtime AS gateway
LABEL org.opencontainers.image.title="puhui-gateway" org.opencontainers.image.licenses="Apache-2.0"
COPY --from=gateway-environment /opt/puhui /opt/puhui
EXPOSE 50051 50052 8443 9090
ENTRYPOINT ["python", "-m", "services", "gateway"]
