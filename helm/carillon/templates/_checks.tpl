{{/* Mistakes that no schema can tell, each as a sentence that says what to do. All of them are told at once. */}}
{{- define "carillon.mistakes" -}}
{{- $values := .Values }}
{{- $redis := $values.redis }}
{{- $embedded := $redis.embedded.enabled }}
{{- $said := list }}
{{- if $redis.url }}{{ $said = append $said "redis.url" }}{{ end }}
{{- if $redis.existingSecret.name }}{{ $said = append $said "redis.existingSecret.name" }}{{ end }}
{{- if $embedded }}{{ $said = append $said "redis.embedded.enabled" }}{{ end }}
{{- if not $said }}
- Where is Redis? Set redis.url (such as redis://my-redis:6379) or redis.existingSecret.name; or redis.embedded.enabled=true for a trial.
{{- else if gt (len $said) 1 }}
- {{ join " and " $said }} are both set; keep the one that says where Redis is.
{{- end }}
{{- if and $redis.url (not (regexMatch "^rediss?://[^/]" $redis.url)) }}
- redis.url must look like redis://host:6379, or rediss://host:6379 for TLS.
{{- end }}
{{- if and $embedded (ne $redis.mode "standalone") }}
- redis.mode is {{ $redis.mode }}, but the embedded Redis is a single server; leave redis.mode at standalone.
{{- end }}
{{- if and $redis.nodes (eq $redis.mode "standalone") }}
- redis.nodes names further servers, which only redis.mode sentinel or cluster uses.
{{- end }}
{{- if and (or $redis.sentinel.user $redis.sentinel.existingSecret.name) (ne $redis.mode "sentinel") }}
- redis.sentinel is about redis.mode sentinel, which is {{ $redis.mode }}.
{{- end }}
{{- if and $redis.tls.existingSecret.name (or $embedded (and $redis.url (not (hasPrefix "rediss://" $redis.url)))) }}
- redis.tls.existingSecret.name is set, but the connection has no TLS; write redis.url as rediss://….
{{- end }}
{{- if and $embedded $redis.waitReplicas }}
- redis.waitReplicas is {{ $redis.waitReplicas }}, but the embedded Redis has no replica: nothing would ever be accepted.
{{- end }}
{{- if regexMatch "[{}]" $redis.prefix }}
- redis.prefix may not have braces in it: they say which keys live together.
{{- end }}
{{- if and $redis.embedded.persistence.existingClaim (not $redis.embedded.persistence.enabled) }}
- redis.embedded.persistence.existingClaim is set, but redis.embedded.persistence.enabled is false.
{{- end }}
{{- if and $values.image.digest (not (regexMatch "^sha256:[0-9a-f]{64}$" $values.image.digest)) }}
- image.digest must be sha256: and 64 hexadecimal digits.
{{- end }}
{{- range list $redis.timeout }}
{{- if not (regexMatch "^([0-9]+(ms|s|m|h) ?)+$" .) }}
- redis.timeout is "{{ . }}", which is no duration; write it like 2s or 500ms.
{{- end }}
{{- end }}
{{- $partitions := dig "broker" "partitions" 64 $values.settings | int }}
{{- if gt (int $values.dispatcher.replicas) $partitions }}
- dispatcher.replicas is {{ $values.dispatcher.replicas }}, but there are {{ $partitions }} partitions (settings.broker.partitions); more dispatchers would stand idle.
{{- end }}
{{- $memory := include "carillon.gatewayMemory" . | fromJson }}
{{- if and $memory.limit (gt (int64 $memory.needed) (int64 $memory.limit)) }}
- gateway.resources.limits.memory is {{ $values.gateway.resources.limits.memory }}, but at their limits {{ $memory.sessions | int64 }} sessions in {{ $memory.rooms | int64 }} rooms each, {{ $memory.forwarding | int64 }} connections handed on and what waits for them take up to {{ divf $memory.needed 1048576.0 | ceil | int64 }}Mi. Raise it, or lower settings.gateway.sessions, rooms_per_session, forwarding.requests, outboxes or tails.
{{- end }}
{{- range $component := list "gateway" "dispatcher" "ingest" }}
{{- $own := index $values $component }}
{{- if and $own.autoscaling.enabled $own.keda.enabled }}
- {{ $component }}.autoscaling and {{ $component }}.keda are both enabled; they would work against each other. Keep one.
{{- end }}
{{- if include "carillon.scaledByOperator" (dict "root" $ "component" $component) }}
{{- if or $own.autoscaling.enabled $own.keda.enabled }}
- pushCluster.spec lets the operator scale {{ $component }}s, and so does {{ $component }}.{{ ternary "autoscaling" "keda" $own.autoscaling.enabled }}; they would work against each other. Keep one.
{{- end }}
{{- end }}
{{- range $scaler := list "autoscaling" "keda" }}
{{- $own := index $own $scaler }}
{{- if $own.enabled }}
{{- if gt (int $own.minReplicas) (int $own.maxReplicas) }}
- {{ $component }}.{{ $scaler }}.minReplicas is {{ $own.minReplicas }}, above maxReplicas, which is {{ $own.maxReplicas }}.
{{- end }}
{{- if and (eq $component "dispatcher") (gt (int $own.maxReplicas) $partitions) }}
- dispatcher.{{ $scaler }}.maxReplicas is {{ $own.maxReplicas }}, but there are {{ $partitions }} partitions (settings.broker.partitions).
{{- end }}
{{- end }}
{{- end }}
{{- if and $own.autoscaling.enabled (not (or $own.autoscaling.cpu $own.autoscaling.memory $own.autoscaling.metrics)) }}
- {{ $component }}.autoscaling has nothing to go by; set cpu, memory or metrics.
{{- end }}
{{- if and $own.keda.enabled (not $own.keda.triggers) }}
- {{ $component }}.keda has nothing to go by; set {{ $component }}.keda.triggers.
{{- end }}
{{- end }}
{{- range $component := include "carillon.components" . | fromJsonArray }}
{{- $own := index $values $component }}
{{- $pod := include "carillon.pod" (dict "root" $ "component" $component) | fromJson }}
{{- if and (eq (toString $pod.strategy.maxSurge | trimSuffix "%") "0") (eq (toString $pod.strategy.maxUnavailable | trimSuffix "%") "0") }}
- {{ $component }}: strategy.maxSurge and strategy.maxUnavailable are both 0, so a rollout could replace nothing.
{{- end }}
{{- range $label, $_ := $pod.labels }}
{{- if hasPrefix "app.kubernetes.io/" $label }}
- {{ $component }}: the label {{ $label }} is the chart's own; choose another one in pods.labels.
{{- end }}
{{- end }}
{{- range $pod.extraEnv }}
{{- if has .name (list "POD_NAME" "POD_IP" "POD_NAMESPACE" "CARILLON_CONFIG" "CARILLON_REDIS__URL" "CARILLON_GATEWAY__ADDRESS" "CARILLON_GATEWAY__FORWARDING__SECRET") }}
- {{ $component }}: extraEnv sets {{ .name }}, which the chart sets itself.
{{- end }}
{{- end }}
{{- end }}
{{- if and $values.operator.enabled $values.policy }}
- policy is set, but with the operator the policy comes from PushCluster, PushRoom and PushProducer. Move it there, or set operator.enabled=false.
{{- end }}
{{- if and (not $values.operator.enabled) (ne (toJson $values.pushCluster.spec) (toJson (dict "policy" (dict "anonymous" (dict "sessions" true))))) }}
- pushCluster.spec is set, but operator.enabled is false, so nobody would read it.
{{- end }}
{{- with $values.producer }}
{{- if and $values.operator.enabled .create (not (regexMatch "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$" .name)) }}
- producer.name is "{{ .name }}", and becomes the name of a PushProducer: lower case letters, digits and - only.
{{- end }}
{{- if and .create (not $values.operator.enabled) }}
{{- if and .existingSecret (not .keySha256) }}
- producer.existingSecret is set, and producer.keySha256 is not: the policy holds the key's SHA-256, which the chart can't know. printf %s "$KEY" | sha256sum
{{- end }}
{{- if and .keySha256 (not .existingSecret) }}
- producer.keySha256 is set without producer.existingSecret, the Secret that holds the key.
{{- end }}
{{- range $other := $values.policy.producers }}
{{- if eq $other.name $values.producer.name }}
- policy.producers has a producer "{{ $other.name }}", and producer.name is the same. Rename one, or set producer.create=false.
{{- end }}
{{- end }}
{{- else if and .create (or .existingSecret .keySha256) }}
- producer.existingSecret and producer.keySha256 are for installations without the operator, which makes and rotates keys itself.
{{- end }}
{{- if and .keySha256 (not (regexMatch "^[0-9a-fA-F]{64}$" .keySha256)) }}
- producer.keySha256 must be 64 hexadecimal digits: the SHA-256 of the key, never the key itself.
{{- end }}
{{- end }}
{{- if and (has "*" (dig "gateway" "origins" list $values.settings)) $values.identity.cookieExistingSecret.name }}
- settings.gateway.origins lets every page in ("*"), and login cookies are believed: any page could act as a visitor of yours. List the origins.
{{- end }}
{{- if and $values.identity.publicKeys.existingSecret (not $values.identity.publicKeys.files) }}
- identity.publicKeys.existingSecret is set; say in identity.publicKeys.files which of its keys are public keys.
{{- end }}
{{- range $component := list "gateway" "ingest" }}
{{- $own := index $values $component }}
{{- if and $own.ingress.enabled (not $own.ingress.hosts) }}
- {{ $component }}.ingress has no hosts; set {{ $component }}.ingress.hosts to [{host: push.example.com}] with your name.
{{- end }}
{{- range $route := list "httpRoute" "grpcRoute" }}
{{- with index $own $route }}
{{- if and .enabled (not .parentRefs) }}
- {{ $component }}.{{ $route }} belongs to no Gateway; set {{ $component }}.{{ $route }}.parentRefs to [{name: the-gateway}].
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- if and $values.metrics.podMonitor.enabled $values.metrics.serviceMonitor.enabled }}
- metrics.podMonitor and metrics.serviceMonitor are both enabled, so everything would be counted twice. Keep one.
{{- end }}
{{- if and $values.metrics.serviceMonitor.enabled (not $values.metrics.services) }}
- metrics.serviceMonitor needs metrics.services.
{{- end }}
{{- end }}
