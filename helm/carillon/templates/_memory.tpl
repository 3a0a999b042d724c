{{/* Bytes of a size as settings (`256MiB`) and Kubernetes (`3Gi`) write it, or of a number. */}}
{{- define "carillon.bytes" -}}
{{- if kindIs "string" . }}
{{- $text := replace " " "" . | lower | trimSuffix "b" }}
{{- $unit := regexFind "[a-z]*$" $text }}
{{- $factor := get (dict "k" 1e3 "m" 1e6 "g" 1e9 "t" 1e12 "ki" 1024.0 "mi" 1048576.0 "gi" 1073741824.0 "ti" 1099511627776.0) $unit | default 1.0 }}
{{- mulf (trimSuffix $unit $text | float64) $factor | int64 }}
{{- else }}{{ int64 . }}{{ end }}
{{- end }}

{{/*
What a gateway may hold in memory where all its settings' limits are reached, as JSON with what it was reckoned from; `limit` is 0
without a limit. Measured: 40 to 52 KiB for a session with a WebSocket, 352 bytes for each room it is in, and 1.2 KiB for
a room that nobody else is in, which is not reckoned with. A connection that is handed on to
another gateway takes 24 KiB. Tails count messages' bytes only, and small messages take as much again. 64 MiB for the process itself, 96 MiB
for publishes, reads of history and of the channel under way; and a tenth for what the allocator keeps. docs/operations.md has the same.
*/}}
{{- define "carillon.gatewayMemory" -}}
{{- $settings := .Values.settings }}
{{- $sessions := dig "gateway" "sessions" 20000 $settings | int64 }}
{{- $rooms := dig "gateway" "rooms_per_session" 200 $settings | int64 }}
{{- $forwarding := dig "gateway" "forwarding" "requests" 20000 $settings | int64 }}
{{- $outboxes := include "carillon.bytes" (dig "gateway" "outboxes" "256MiB" $settings) | int64 }}
{{- $tails := include "carillon.bytes" (dig "gateway" "tails" "64MiB" $settings) | int64 }}
{{- $held := add (mul $sessions (add 49152 (mul $rooms 384))) (mul $forwarding 24576) $outboxes (mul 2 $tails) (mul 160 1048576) }}
{{- $limit := dig "limits" "memory" 0 (.Values.gateway.resources | default dict) | default 0 }}
{{- dict "sessions" $sessions "rooms" $rooms "forwarding" $forwarding "needed" (mulf $held 1.1 | int64) "limit" (include "carillon.bytes" $limit | int64) | toJson }}
{{- end }}
