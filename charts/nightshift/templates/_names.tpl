{{/* What an installation is called; its objects begin with it. */}}
{{- define "nightshift.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- $full := contains $name .Release.Name | ternary .Release.Name (printf "%s-%s" .Release.Name $name) -}}
{{- default $full .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- end }}

{{/* The same for objects that stand in no namespace. */}}
{{- define "nightshift.clusterWideName" -}}
{{- $full := include "nightshift.fullname" . -}}
{{- eq .Release.Namespace $full | ternary $full (printf "%s-%s" .Release.Namespace $full) -}}
{{- end }}

{{- define "nightshift.installation" -}}
{{- default (include "nightshift.clusterWideName" .) .Values.installation -}}
{{- end }}

{{/* The namespaces that are served, as JSON. */}}
{{- define "nightshift.namespaces" -}}
{{- default (list .Release.Namespace) .Values.namespaces | toJson -}}
{{- end }}

{{/* Takes a list of the context and a component. */}}
{{- define "nightshift.selector" -}}
{{- $context := index . 0 -}}
app.kubernetes.io/name: {{ default $context.Chart.Name $context.Values.nameOverride }}
app.kubernetes.io/instance: {{ $context.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{- define "nightshift.labels" -}}
{{- $context := index . 0 -}}
{{ include "nightshift.selector" . }}
app.kubernetes.io/version: {{ $context.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $context.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $context.Chart.Name ($context.Chart.Version | replace "+" "_") }}
{{- end }}

{{/* The labels that the operator puts on every pod of a batch: operator/nightshift_operator/jobs.py. */}}
{{- define "nightshift.processorSelector" -}}
app.kubernetes.io/managed-by: nightshift
app.kubernetes.io/component: processor
{{- end }}

{{- define "nightshift.image" -}}
{{- $tag := printf ":%s" (default .Chart.AppVersion .Values.image.tag) -}}
{{- .Values.image.repository }}{{ empty .Values.image.digest | ternary $tag (printf "@%s" .Values.image.digest) }}
{{- end }}

{{- define "nightshift.scheme" -}}
{{- empty .Values.tls.secretName | ternary "http" "https" -}}
{{- end }}

{{- define "nightshift.keysSecret" -}}
{{- default (printf "%s-api-keys" (include "nightshift.fullname" .)) .Values.apiKeysSecret -}}
{{- end }}

{{/* The Secret with the endpoints of webhooks; empty if there are none. */}}
{{- define "nightshift.webhooksSecret" -}}
{{- if .Values.webhooksSecret -}}
{{- .Values.webhooksSecret -}}
{{- else if .Values.webhooks -}}
{{- include "nightshift.fullname" . }}-webhooks
{{- end -}}
{{- end }}

{{- define "nightshift.priorityClass" -}}
{{- if .Values.priorityClass.name -}}
{{- .Values.priorityClass.name -}}
{{- else if .Values.priorityClass.create -}}
{{- include "nightshift.clusterWideName" . }}-batch
{{- end -}}
{{- end }}

{{/* Whether the roles show metrics. */}}
{{- define "nightshift.metrics" -}}
{{- or .Values.metrics.enabled .Values.serviceMonitor.enabled | ternary "true" "" -}}
{{- end }}

{{- define "nightshift.metricsPort" -}}
9464
{{- end }}
