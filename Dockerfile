# One image for the three roles: nightshift-api, nightshift-operator, nightshift-processor.
#
# `make images` lays the pinned wheels and pip into build/image/ and then builds this, so a build needs no network but
# for its base. Any base with a Python 3.11 will do; it needs neither pip nor venv.
ARG BASE=python:3.11-slim

FROM ${BASE} AS installed
COPY build/image/ /image/
RUN PYTHONPATH=/image python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore \
      --no-cache-dir --no-index --find-links /image/wheels --target /opt/nightshift \
      'nightshift-batch[api,operator,processor,kubernetes,gcs,otel]' \
 && cd /opt/nightshift/bin && rm nightshift kubectl-nightshift kubectl_complete-nightshift

FROM ${BASE}
COPY --from=installed /opt/nightshift /opt/nightshift
# Nothing is written at run time: the root may be read-only. USER is for kopf, which asks for a name of its user that a
# number chosen by the cluster does not have.
ENV PATH=/opt/nightshift/bin:/usr/local/bin:/usr/bin:/bin \
    USER=nightshift \
    PYTHONPATH=/opt/nightshift \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
# By number, so that the kubelet can tell that it is not root.
USER 65532:65532
