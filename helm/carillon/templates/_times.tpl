{{/* How long a component's process takes at most to end by itself, in seconds. Takes `root` and `component`. */}}
{{- define "carillon.drainSeconds" -}}
{{- if eq .component "gateway" }}{{ .root.Values.gateway.drain.timeoutSeconds | int }}{{ else }}30{{ end }}
{{- end }}

{{/* How long a pod may take to end: the sleep before, the drain, and a margin. Takes `root`, `component` and `pod`. */}}
{{- define "carillon.graceSeconds" -}}
{{- add (.pod.preStopSleepSeconds | int) (include "carillon.drainSeconds" . | int) (.pod.terminationMarginSeconds | int) }}
{{- end }}

{{/* A number of pods, of `count`, that may be written as a share. Shares of surge are rounded up, others down. */}}
{{- define "carillon.share" -}}
{{- if kindIs "string" .of }}
{{- $exact := divf (mulf .count (trimSuffix "%" .of | float64)) 100 }}
{{- if .up }}{{ ceil $exact | int }}{{ else }}{{ floor $exact | int }}{{ end }}
{{- else }}{{ .of | int }}{{ end }}
{{- end }}

{{/* The most pods a rollout may have to replace, by whoever decides; where nobody says it here, twenty. Takes `root` and `component`. */}}
{{- define "carillon.mostReplicas" -}}
{{- $own := index .root.Values .component }}
{{- $spec := .root.Values.pushCluster.spec }}
{{- if and $own.autoscaling $own.autoscaling.enabled }}{{ $own.autoscaling.maxReplicas | int }}
{{- else if and $own.keda $own.keda.enabled }}{{ $own.keda.maxReplicas | int }}
{{- else if include "carillon.scaledByOperator" . }}
{{- $wanted := dict "gateway" (dig "gateways" "replicas" 0 $spec) | dig .component 0 | int }}
{{- max $wanted (dig "autoscaling" (printf "%ss" .component) "max" 0 $spec | int) }}
{{- else if kindIs "invalid" $own.replicas }}20
{{- else }}{{ $own.replicas | int }}{{ end }}
{{- end }}

{{/*
How long a rollout may stand still before Kubernetes, and `helm --wait`, call it failed. On full nodes a new pod only fits
when an old one is gone, so a wave may have to wait for a whole drain: waves × (end of the old + start of the new), never
less than Kubernetes' own 10 minutes. Takes `root`, `component` and `pod`.
*/}}
{{- define "carillon.progressDeadlineSeconds" -}}
{{- $count := include "carillon.mostReplicas" . | int | max 1 }}
{{- $surge := include "carillon.share" (dict "of" .pod.strategy.maxSurge "count" $count "up" true) | int }}
{{- $unavailable := include "carillon.share" (dict "of" .pod.strategy.maxUnavailable "count" $count "up" false) | int }}
{{- $atOnce := add $surge $unavailable | int | max 1 }}
{{- $waves := ceil (divf $count $atOnce) | int }}
{{- $start := 60 }}
{{- $wave := add (include "carillon.graceSeconds" . | int) (.pod.minReadySeconds | int) $start }}
{{- max 600 (add 60 (mul $waves $wave)) }}
{{- end }}
