#!/bin/bash
# `make kind-demo`: a cluster in Docker with the chart, a bucket emulator and a small real model, and a batch through it.
# Needs kind, kubectl and Helm. `kind delete cluster --name nightshift-demo` takes it all away again.
set -euo pipefail
cd "$(dirname "$0")/.."
: "${IMAGE:?is set by make kind-demo}"
key=sk-demo
bucket=http://bucket.nightshift.svc:4443

kind create cluster --name nightshift-demo --wait 2m
kind load docker-image --name nightshift-demo "$IMAGE"
kubectl create namespace nightshift
kubectl apply -n nightshift -f examples/kind-demo.yaml
kubectl rollout status -n nightshift --timeout=15m deployment/bucket deployment/model

helm install nightshift charts/nightshift --namespace nightshift --wait \
  --set bucket=gs://batches \
  --set "extraEnv[0].name=STORAGE_EMULATOR_HOST,extraEnv[0].value=$bucket" \
  --set "operator.settings.processorEnv={STORAGE_EMULATOR_HOST=$bucket}" \
  --set "apiKeys[0].sha256=$(printf %s "$key" | sha256sum | cut -c-64)" \
  --set "models[0].name=smollm2,models[0].spec.name=smollm2:135m,models[0].spec.service.url=http://model:11434"

kubectl port-forward -n nightshift svc/nightshift 8080:443 >/dev/null &
trap 'kill $!' EXIT
curl() { command curl --silent --show-error --fail --retry 20 --retry-connrefused --header "Authorization: Bearer $key" "$@"; }

# Upload with the API, batch with a manifest: either does for both.
id=$(curl localhost:8080/v1/files --form purpose=batch --form file=@examples/prompts.jsonl | grep -o 'file_[0-9a-f-]*' | head -1)
sed "s/fileId: .*/fileId: $id/" examples/manifests/batchjob-file.yaml | kubectl apply -n nightshift -f -
kubectl wait -n nightshift --for=condition=Complete --timeout=30m batchjob/translations
kubectl get -n nightshift batchjobs,storedfiles
output=$(kubectl get -n nightshift batchjob translations -o jsonpath='{.status.outputFileId}')
curl "localhost:8080/v1/files/$output/content"
