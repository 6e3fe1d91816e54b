# The daemon and its commands: docker run --env CREDITSD_DSN=… --env CREDITSD_SINKS=… creditsd [run | install | status …]
ARG PYTHON=3.13

FROM python:${PYTHON}-slim AS build
WORKDIR /src
COPY requirements requirements
# A virtual environment without pip of its own: only what runs is copied into the image. `make lock` chose the versions.
RUN pip install --no-cache-dir --require-hashes --requirement requirements/build.txt \
    && python -m venv --without-pip /opt/creditsd \
    && pip --python /opt/creditsd/bin/python install --no-cache-dir --require-hashes --only-binary :all: \
        --requirement requirements/image.txt
COPY pyproject.toml README.md LICENSE ./
COPY creditsd creditsd
COPY sql sql
RUN pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir /wheels . \
    && pip --python /opt/creditsd/bin/python install --no-cache-dir --no-deps --no-index /wheels/creditsd-*.whl

FROM python:${PYTHON}-slim
COPY --from=build /opt/creditsd /opt/creditsd
ENV PATH=/opt/creditsd/bin:$PATH \
    CREDITSD_HTTP__LISTEN=0.0.0.0:8321
# A number and not a name, so that runAsNonRoot of Kubernetes can tell.
USER 10001:10001
EXPOSE 8321
STOPSIGNAL SIGTERM
# Alive also while it waits for PostgreSQL; without --live it asks whether it is ready.
HEALTHCHECK --interval=30s --timeout=10s --start-period=10s --retries=3 CMD ["creditsd", "healthcheck", "--live"]
ENTRYPOINT ["creditsd"]
CMD ["run"]
