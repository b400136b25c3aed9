{{/* What both Deployments' pods share. Takes a list of the context and a role. */}}
{{- define "nightshift.pod" -}}
{{- $context := index . 0 -}}
{{- $role := index . 1 -}}
{{- $values := index $context.Values $role -}}
serviceAccountName: {{ include "nightshift.fullname" $context }}-{{ $role }}
enableServiceLinks: false # a Service called nightshift would set NIGHTSHIFT_PORT
terminationGracePeriodSeconds: {{ $values.terminationGracePeriodSeconds }}
securityContext: {{- toYaml $context.Values.podSecurityContext | nindent 2 }}
{{- with $context.Values.imagePullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with $values.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "nightshift.container" -}}
{{- $context := index . 0 -}}
{{- $role := index . 1 -}}
name: {{ $role }}
image: {{ include "nightshift.image" $context }}
imagePullPolicy: {{ $context.Values.image.pullPolicy }}
command: [nightshift-{{ $role }}]
resources: {{- toYaml (index $context.Values $role).resources | nindent 2 }}
securityContext:
  allowPrivilegeEscalation: false
  capabilities: {drop: [ALL]}
  readOnlyRootFilesystem: true
{{- end }}

{{/* The port of a container that shows metrics. */}}
{{- define "nightshift.metricsContainerPort" -}}
{{- if include "nightshift.metrics" . -}}
- name: metrics
  containerPort: {{ include "nightshift.metricsPort" . }}
{{- end }}
{{- end }}

{{/* The rule of a NetworkPolicy that lets the scrape in. */}}
{{- define "nightshift.scrape" -}}
{{- if include "nightshift.metrics" . -}}
- ports:
    - port: metrics
  {{- with .Values.networkPolicy.metricsFrom }}
  from: {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}
{{- end }}

{{/* What both roles are told, then the settings of both and of the one. */}}
{{- define "nightshift.env" -}}
{{- $context := index . 0 -}}
{{- $values := index $context.Values (index . 1) -}}
- name: NIGHTSHIFT_CLUSTER
  value: kubernetes://{{ include "nightshift.namespaces" $context | fromJsonArray | join "," }}
- name: NIGHTSHIFT_BUCKET
  value: {{ $context.Values.bucket | quote }}
- name: NIGHTSHIFT_INSTALLATION
  value: {{ include "nightshift.installation" $context | quote }}
{{- if include "nightshift.metrics" $context }}
- name: NIGHTSHIFT_METRICS_PORT
  value: {{ include "nightshift.metricsPort" $context | quote }}
{{- end }}
{{- range $name, $value := merge (dict) $values.settings $context.Values.settings }}
- name: NIGHTSHIFT_{{ $name | snakecase | upper }}
  value: {{ include "nightshift.settingText" $value | quote }}
{{- end }}
{{- with include "nightshift.tracing" $context }}
{{ . }}
{{- end }}
{{- with concat $context.Values.extraEnv $values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* The SDK's own variables; the operator hands them on to processors, but for the headers. */}}
{{- define "nightshift.tracing" -}}
{{- with .Values.tracing -}}
{{- if .endpoint -}}
- name: OTEL_EXPORTER_OTLP_ENDPOINT
  value: {{ .endpoint | quote }}
{{- with .sampler }}
- name: OTEL_TRACES_SAMPLER
  value: {{ . | quote }}
{{- end }}
{{- with .samplerArg }}
- name: OTEL_TRACES_SAMPLER_ARG
  value: {{ . | quote }}
{{- end }}
{{- if .headersSecret.name }}
- name: OTEL_EXPORTER_OTLP_HEADERS
  valueFrom:
    secretKeyRef: {name: {{ .headersSecret.name }}, key: {{ .headersSecret.key }}, optional: true}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{/* JSON, since it alone writes 104857600 and not 1.048576e+08. */}}
{{- define "nightshift.settingText" -}}
{{- if kindIs "string" . -}}
{{- . -}}
{{- else if kindIs "slice" . -}}
{{- join "," . -}}
{{- else -}}
{{- toJson . -}}
{{- end -}}
{{- end }}
