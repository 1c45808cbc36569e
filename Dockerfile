FROM python:3.12-slim
WORKDIR /app
RUN useradd --create-home --uid 10001 derms && mkdir /data && chown derms /data
COPY requirements.lock pyproject.toml README.md ./
RUN pip install --no-cache-dir --require-hashes -r requirements.lock
COPY schemas schemas
COPY sinks sinks
COPY pipelines pipelines
COPY gateway gateway
RUN pip install --no-cache-dir --no-deps . && cd / && python -m pipelines.compiled
USER derms
ENV DERMS_DATA=/data
VOLUME /data
ENTRYPOINT ["derms"]
