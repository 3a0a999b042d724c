{{/* A component's Deployment. Takes `root`, `component`, and from the component's file `ports`, `env`. */}}
{{- define "carillon.deployment" -}}
{{- $root := .root }}
{{- $values := $root.Values }}
{{- $own := index $values .component }}
{{- $pod := include "carillon.pod" . | fromJson }}
{{- $times := dict "root" $root "component" .component "pod" $pod }}
{{- $name := printf "%s-%s" (include "carillon.fullname" $root) .component }}
{{- $policyFile := and (not $values.operator.enabled) (ne .component "operator") }}
{{- $keys := and (eq .component "gateway") $values.identity.publicKeys.existingSecret }}
apiVersion: apps/v1
kind: Deployment
metadata:
  {{- include "carillon.metadata" (dict "root" $root "component" .component "name" $name) | nindent 2 }}
spec:
  {{- with include "carillon.replicas" (dict "root" $root "component" .component "name" $name) }}
  replicas: {{ . }}
  {{- end }}
  revisionHistoryLimit: {{ $pod.revisionHistoryLimit }}
  minReadySeconds: {{ $pod.minReadySeconds }}
  progressDeadlineSeconds: {{ include "carillon.progressDeadlineSeconds" $times }}
  strategy:
    type: RollingUpdate
    rollingUpdate:
      maxSurge: {{ $pod.strategy.maxSurge }}
      maxUnavailable: {{ $pod.strategy.maxUnavailable }}
  selector:
    matchLabels:
      {{- include "carillon.selector" . | nindent 6 }}
  template:
    metadata:
      labels:
        {{- include "carillon.labels" . | nindent 8 }}
        {{- with $pod.labels }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      annotations:
        kubectl.kubernetes.io/default-container: {{ .component }}
        # Settings are read at start: another file, or another address of Redis, is another pod.
        checksum/settings: {{ list (include "carillon.settings" .) $values.redis.url (toJson $values.redis.existingSecret) | join "\n" | sha256sum }}
        {{- with merge (dict) $pod.annotations $values.commonAnnotations }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
    spec:
      {{- with $values.image.pullSecrets }}
      imagePullSecrets:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      serviceAccountName: {{ include "carillon.serviceAccount" . }}
      # Only the operator talks to the Kubernetes API.
      automountServiceAccountToken: {{ eq .component "operator" }}
      # The variables of Services would be taken for settings, and there may be thousands of them.
      enableServiceLinks: false
      terminationGracePeriodSeconds: {{ include "carillon.graceSeconds" $times }}
      {{- with $pod.priorityClassName }}
      priorityClassName: {{ . }}
      {{- end }}
      {{- with $pod.runtimeClassName }}
      runtimeClassName: {{ . }}
      {{- end }}
      securityContext:
        {{- toYaml $pod.podSecurityContext | nindent 8 }}
      containers:
        - name: {{ .component }}
          image: {{ include "carillon.image" $root }}
          imagePullPolicy: {{ $values.image.pullPolicy }}
          args: [{{ .component }}]
          ports:
            {{- range .ports }}
            - { name: {{ .name }}, containerPort: {{ .port }} }
            {{- end }}
            - { name: admin, containerPort: 9090 }
          env:
            # Its channel, or its membership, is named after it.
            - name: POD_NAME
              valueFrom: { fieldRef: { fieldPath: metadata.name } }
            - name: POD_NAMESPACE
              valueFrom: { fieldRef: { fieldPath: metadata.namespace } }
            - name: POD_IP
              valueFrom: { fieldRef: { fieldPath: status.podIP } }
            - name: CARILLON_CONFIG
              value: /etc/carillon/settings/carillon.yaml
            {{- include "carillon.redisEnv" $root | nindent 12 }}
            {{- with .env }}
            {{- . | nindent 12 }}
            {{- end }}
            {{- with $pod.extraEnv }}
            {{- toYaml . | nindent 12 }}
            {{- end }}
          {{- with $pod.extraEnvFrom }}
          envFrom:
            {{- toYaml . | nindent 12 }}
          {{- end }}
          # It listens before it waits for anything; two minutes are for a node that is short of everything.
          startupProbe:
            httpGet: { path: /startupz, port: admin }
            periodSeconds: 1
            timeoutSeconds: 3
            failureThreshold: 120
          # Never depends on Redis: a restart would not bring it back.
          livenessProbe:
            httpGet: { path: /livez, port: admin }
            periodSeconds: 10
            timeoutSeconds: 3
            failureThreshold: 3
          # Says whether its own path works.
          readinessProbe:
            httpGet: { path: /readyz, port: admin }
            periodSeconds: 3
            timeoutSeconds: 3
            failureThreshold: 2
          {{- if $pod.preStopSleepSeconds }}
          lifecycle:
            # Proxies hear of its end a little later than it does; until then it goes on.
            preStop: { sleep: { seconds: {{ $pod.preStopSleepSeconds }} } }
          {{- end }}
          resources:
            {{- toYaml $own.resources | nindent 12 }}
          securityContext:
            {{- toYaml $pod.securityContext | nindent 12 }}
          volumeMounts:
            - { name: settings, mountPath: /etc/carillon/settings, readOnly: true }
            {{- if $policyFile }}
            # The folder, not the file: a file mounted alone never changes.
            - { name: policy, mountPath: /etc/carillon/policy, readOnly: true }
            {{- end }}
            {{- if $values.redis.tls.existingSecret.name }}
            - { name: redis-tls, mountPath: /etc/carillon/redis-tls, readOnly: true }
            {{- end }}
            {{- if $keys }}
            - { name: public-keys, mountPath: /etc/carillon/public-keys, readOnly: true }
            {{- end }}
            {{- with $pod.extraVolumeMounts }}
            {{- toYaml . | nindent 12 }}
            {{- end }}
      volumes:
        - name: settings
          configMap: { name: {{ $name }} }
        {{- if $policyFile }}
        - name: policy
          configMap: { name: {{ include "carillon.fullname" $root }}-policy }
        {{- end }}
        {{- if $values.redis.tls.existingSecret.name }}
        - name: redis-tls
          secret: { secretName: {{ $values.redis.tls.existingSecret.name }} }
        {{- end }}
        {{- if $keys }}
        - name: public-keys
          secret: { secretName: {{ $values.identity.publicKeys.existingSecret }} }
        {{- end }}
        {{- with $pod.extraVolumes }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      {{- with $pod.nodeSelector }}
      nodeSelector:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with $pod.tolerations }}
      tolerations:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with $pod.affinity }}
      affinity:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- if kindIs "invalid" $pod.topologySpreadConstraints }}
      topologySpreadConstraints:
        - maxSkew: 1
          topologyKey: kubernetes.io/hostname
          whenUnsatisfiable: ScheduleAnyway
          labelSelector:
            matchLabels:
              {{- include "carillon.selector" . | nindent 14 }}
          # During a rollout only the new pods count, or they would be put where the old ones are not.
          matchLabelKeys: [pod-template-hash]
      {{- else if $pod.topologySpreadConstraints }}
      topologySpreadConstraints:
        {{- toYaml $pod.topologySpreadConstraints | nindent 8 }}
      {{- end }}
{{- end }}

{{/*
How many pods, or nothing if somebody else decides. Taking back a number that Helm gave makes it 1 until the other one has said its
own, and so many gateways' clients would have to go: as long as the number is Helm's, it is said again as it is. Takes `root`,
`component` and `name`.
*/}}
{{- define "carillon.replicas" -}}
{{- if not (include "carillon.scaledByOthers" .) }}
{{- (index .root.Values .component).replicas }}
{{- else }}
{{- $live := lookup "apps/v1" "Deployment" .root.Release.Namespace .name | default dict }}
{{- range dig "metadata" "managedFields" list $live }}
{{- if and (eq .manager "helm") (hasKey (dig "fieldsV1" "f:spec" dict .) "f:replicas") }}
{{- dig "spec" "replicas" "" $live }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{/* Not empty if somebody else decides how many pods a component has. Takes `root` and `component`. */}}
{{- define "carillon.scaledByOthers" -}}
{{- $own := index .root.Values .component }}
{{- $hpa := and $own.autoscaling $own.autoscaling.enabled }}
{{- $keda := and $own.keda $own.keda.enabled }}
{{- $nobody := kindIs "invalid" $own.replicas }}
{{- if or $hpa $keda $nobody (include "carillon.scaledByOperator" .) }}yes{{ end }}
{{- end }}

{{/* Not empty if the operator decides it, by `pushCluster.spec`. Takes `root` and `component`. */}}
{{- define "carillon.scaledByOperator" -}}
{{- $values := .root.Values }}
{{- if and $values.operator.enabled $values.pushCluster.create (has .component (list "gateway" "dispatcher")) }}
{{- $scaling := dig "autoscaling" (printf "%ss" .component) dict $values.pushCluster.spec }}
{{- $wanted := and (eq .component "gateway") (not (kindIs "invalid" (dig "gateways" "replicas" nil $values.pushCluster.spec))) }}
{{- if or $scaling $wanted }}yes{{ end }}
{{- end }}
{{- end }}
