{{/* The settings file of a component: what the chart knows, and `settings`. Only sections that the component reads are in it, so that a change of others does not restart it. Takes `root` and `component`. */}}
{{- define "carillon.settings" -}}
{{- $values := .root.Values }}
{{- $unread := dict
      "gateway" (list "dispatcher")
      "dispatcher" (list "gateway" "identity")
      "ingest" (list "gateway" "dispatcher" "identity")
      "operator" (list "gateway" "dispatcher" "ingest" "identity") }}
{{- $settings := omit (deepCopy $values.settings) "" }}
{{- range index $unread .component }}
{{- $settings = omit $settings . }}
{{- end }}
{{- $redis := dict
      "mode" $values.redis.mode "prefix" $values.redis.prefix "connections" $values.redis.connections
      "timeout" $values.redis.timeout "wait_replicas" $values.redis.waitReplicas
      "allow_no_persistence" $values.redis.allowNoPersistence }}
{{- with $values.redis.nodes }}{{ $_ := set $redis "nodes" . }}{{ end }}
{{- if eq $values.redis.mode "sentinel" }}
{{- $sentinel := dict "master" $values.redis.sentinel.master }}
{{- with $values.redis.sentinel.user }}{{ $_ := set $sentinel "user" . }}{{ end }}
{{- $_ := set $redis "sentinel" $sentinel }}
{{- end }}
{{- if $values.redis.tls.existingSecret.name }}
{{- $_ := set $redis "tls" (dict "ca_file" (printf "/etc/carillon/redis-tls/%s" $values.redis.tls.existingSecret.key)) }}
{{- end }}
{{- $known := dict "redis" $redis }}
{{- if $values.ipv6 }}
{{- $_ := set $known "admin" (dict "listen" "[::]:9090") }}
{{- end }}
{{- if eq .component "gateway" }}
{{- $gateway := dict "drain" (dict "timeout" (printf "%ds" (int $values.gateway.drain.timeoutSeconds)) "rate" $values.gateway.drain.rate) }}
{{- if $values.ipv6 }}{{ $_ := set $gateway "listen" "[::]:3000" }}{{ end }}
{{- $_ := set $known "gateway" $gateway }}
{{- if $values.identity.publicKeys.existingSecret }}
{{- $files := list }}
{{- range $values.identity.publicKeys.files }}{{ $files = append $files (printf "/etc/carillon/public-keys/%s" .) }}{{ end }}
{{- $_ := set $known "identity" (dict "public_keys" $files) }}
{{- end }}
{{- end }}
{{- if and (eq .component "ingest") $values.ipv6 }}
{{- $_ := set $known "ingest" (dict "http" (dict "listen" "[::]:8080") "grpc" (dict "listen" "[::]:8081")) }}
{{- end }}
{{- if eq .component "operator" }}
{{- $operator := dict
      "cluster" $values.pushCluster.name
      "lease" (printf "%s-operator" (include "carillon.fullname" .root))
      "selector" (printf "app.kubernetes.io/name=%s,app.kubernetes.io/instance=%s" (include "carillon.name" .root) .root.Release.Name) }}
{{- with include "carillon.watched" .root | fromJsonArray }}{{ $_ := set $operator "watch" . }}{{ end }}
{{- $_ := set $known "operator" $operator }}
{{- else if not $values.operator.enabled }}
{{- $_ := set $known "policy" (dict "file" "/etc/carillon/policy/policy.yaml") }}
{{- end }}
{{- toYaml (mergeOverwrite $settings $known) }}
{{- end }}

{{/* The namespaces the operator watches, as a JSON list; empty is its own only. */}}
{{- define "carillon.watched" -}}
{{- $watch := list }}
{{- if has "*" .Values.operator.watch }}
{{- $watch = list "*" }}
{{- else if .Values.operator.watch }}
{{- $watch = prepend .Values.operator.watch .Release.Namespace | uniq }}
{{- end }}
{{- toJson $watch }}
{{- end }}

{{/* Where Redis is, as environment variables: the URL may hold a password. */}}
{{- define "carillon.redisEnv" -}}
{{- $redis := .Values.redis }}
{{- if $redis.embedded.enabled }}
- name: REDIS_PASSWORD
  valueFrom:
    secretKeyRef:
      {{- include "carillon.embeddedPassword" . | nindent 6 }}
- name: CARILLON_REDIS__URL
  value: redis://:$(REDIS_PASSWORD)@{{ include "carillon.fullname" . }}-redis:6379
{{- else }}
- name: CARILLON_REDIS__URL
  valueFrom:
    secretKeyRef:
      {{- if $redis.existingSecret.name }}
      name: {{ $redis.existingSecret.name }}
      key: {{ $redis.existingSecret.key }}
      {{- else }}
      name: {{ include "carillon.fullname" . }}-redis
      key: url
      {{- end }}
{{- end }}
{{- with $redis.sentinel.existingSecret }}
{{- if .name }}
- name: CARILLON_REDIS__SENTINEL__PASSWORD
  valueFrom:
    secretKeyRef:
      name: {{ .name }}
      key: {{ .key }}
{{- end }}
{{- end }}
{{- end }}

{{/* Where the password of the embedded Redis is. */}}
{{- define "carillon.embeddedPassword" -}}
{{- with .Values.redis.embedded.existingSecret }}
{{- if .name }}
name: {{ .name }}
key: {{ .key }}
{{- else }}
name: {{ include "carillon.fullname" $ }}-redis
key: password
{{- end }}
{{- end }}
{{- end }}

{{/* Secrets of gateways, as environment variables. */}}
{{- define "carillon.gatewaySecrets" -}}
{{- if .Values.gateway.polling }}
- name: CARILLON_GATEWAY__FORWARDING__SECRET
  valueFrom:
    secretKeyRef:
      {{- with .Values.gateway.forwarding.existingSecret }}
      name: {{ .name | default (printf "%s-forwarding" (include "carillon.fullname" $)) }}
      key: {{ if .name }}{{ .key }}{{ else }}secret{{ end }}
      {{- end }}
{{- end }}
{{- range $variable, $secret := dict
      "CARILLON_IDENTITY__HS256_SECRET" .Values.identity.hs256ExistingSecret
      "CARILLON_IDENTITY__COOKIE__SECRETS" .Values.identity.cookieExistingSecret
      "CARILLON_IDENTITY__COOKIE__STORE__URL" .Values.identity.cookieStoreExistingSecret }}
{{- if $secret.name }}
- name: {{ $variable }}
  valueFrom:
    secretKeyRef:
      name: {{ $secret.name }}
      key: {{ $secret.key }}
{{- end }}
{{- end }}
{{- end }}

{{/* Where the key of the first producer is: the name of its Secret. The operator names it after the PushProducer. */}}
{{- define "carillon.producerSecret" -}}
{{- if .Values.operator.enabled }}
{{- include "carillon.producerName" . }}-key
{{- else }}
{{- .Values.producer.existingSecret | default (printf "%s-producer" (include "carillon.fullname" .)) }}
{{- end }}
{{- end }}

{{/* The name of the first producer's PushProducer. */}}
{{- define "carillon.producerName" -}}
{{- printf "%s-%s" (include "carillon.fullname" .) .Values.producer.name | lower | trunc 59 | trimSuffix "-" }}
{{- end }}
