{{/* The chart's name, for labels and names. */}}
{{- define "carillon.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* What all names begin with. 49 characters leave room for `-dispatcher` and what Kubernetes puts behind a pod's name. */}}
{{- define "carillon.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 49 | trimSuffix "-" }}
{{- else if contains (include "carillon.name" .) .Release.Name }}
{{- .Release.Name | trunc 49 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "carillon.name" .) | trunc 49 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{/* What selects the pods of a component for ever: Deployments can't change it. Takes `root` and `component`. */}}
{{- define "carillon.selector" -}}
app.kubernetes.io/name: {{ include "carillon.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{/* The labels of an object. Takes `root` and, if it belongs to one, `component`. */}}
{{- define "carillon.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" | trunc 63 }}
app.kubernetes.io/name: {{ include "carillon.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
{{- with .component }}
app.kubernetes.io/component: {{ . }}
{{- end }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/part-of: carillon
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* The metadata that all objects have. Takes `root`, `name`, and if wanted `component`, `annotations` and `labels`. */}}
{{- define "carillon.metadata" -}}
name: {{ .name }}
namespace: {{ .namespace | default .root.Release.Namespace }}
labels:
  {{- include "carillon.labels" . | nindent 2 }}
  {{- with .labels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with merge (dict) (.annotations | default dict) .root.Values.commonAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* An image of `repository`, `tag` and `digest`; takes `image` and `tag`, which counts if the image has none. */}}
{{- define "carillon.imageOf" -}}
{{- if .image.digest -}}
{{ .image.repository }}@{{ .image.digest }}
{{- else -}}
{{ .image.repository }}:{{ .image.tag | default .tag }}
{{- end }}
{{- end }}

{{/* The one image. */}}
{{- define "carillon.image" -}}
{{- include "carillon.imageOf" (dict "image" .Values.image "tag" .Chart.AppVersion) }}
{{- end }}

{{/* A component's ServiceAccount. Takes `root` and `component`. */}}
{{- define "carillon.serviceAccount" -}}
{{- $account := (index .root.Values .component).serviceAccount }}
{{- if $account.create }}
{{- $account.name | default (printf "%s-%s" (include "carillon.fullname" .root) .component) }}
{{- else }}
{{- $account.name | default "default" }}
{{- end }}
{{- end }}

{{/* The components that are installed, as a JSON list. */}}
{{- define "carillon.components" -}}
{{- $components := list "gateway" "dispatcher" "ingest" }}
{{- if .Values.operator.enabled }}
{{- $components = append $components "operator" }}
{{- end }}
{{- toJson $components }}
{{- end }}

{{/* What a component's pods are like: `pods`, and over it what the component says itself. As JSON. Takes `root` and `component`. */}}
{{- define "carillon.pod" -}}
{{- $own := index .root.Values .component }}
{{- $pod := deepCopy .root.Values.pods }}
{{- /* Helm drops defaults that are null, so that one has to be named. */}}
{{- range $key := append (keys $pod) "topologySpreadConstraints" | uniq }}
{{- if hasKey $own $key }}
{{- $value := index $own $key }}
{{- if and (kindIs "map" $value) (kindIs "map" (index $pod $key)) }}
{{- $_ := set $pod $key (mergeOverwrite (deepCopy (index $pod $key)) (deepCopy $value)) }}
{{- else }}
{{- $_ := set $pod $key $value }}
{{- end }}
{{- end }}
{{- end }}
{{- toJson $pod }}
{{- end }}
