# Spanledger as a service: non-root, decoder compiled at build, data in /var/lib/spanledger.
FROM python:3.12-slim AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY spanledger spanledger
COPY collector collector
COPY processors processors
COPY exporters exporters
COPY config config
RUN python -m venv /opt/spanledger && /opt/spanledger/bin/pip install --no-cache-dir '.[embedded,notify]'

FROM python:3.12-slim
RUN useradd --system --uid 10001 --create-home spanledger \
    && install -d -o spanledger -g spanledger -m 0700 /var/lib/spanledger \
    && install -d -o spanledger -g spanledger /var/cache/numba
COPY --from=build /opt/spanledger /opt/spanledger
ENV PATH=/opt/spanledger/bin:$PATH \
    NUMBA_CACHE_DIR=/var/cache/numba \
    SPANLEDGER_DATA_DIR=/var/lib/spanledger
USER 10001
RUN spanledger warmup
VOLUME /var/lib/spanledger
EXPOSE 4317 4318
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8787/readyz', timeout=2)"]
ENTRYPOINT ["spanledger"]
# On every interface of the container's network: what is published to the host, and where, is said at `docker run -p`.
CMD ["run", "--set", "receivers.otlp.protocols.grpc.endpoint=0.0.0.0:4317", "--set", "receivers.otlp.protocols.http.endpoint=0.0.0.0:4318"]
