{{/* (list . "prefect" or "prefect-services"): the pod template. */}}
{{- define "abohb.prefect.pod" -}}
{{- $root := index . 0 }}
{{- $part := index . 1 }}
{{- with $root }}
{{- $prefect := .Values.prefect }}
metadata:
  labels: {{- include "abohb.selector" (list . $part) | nindent 4 }}
  {{- with $prefect.podAnnotations }}
  annotations: {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  automountServiceAccountToken: false
  enableServiceLinks: false # PREFECT_... of a Service would be taken for settings
  {{- include "abohb.pullSecrets" . | nindent 2 }}
  {{- include "abohb.scheduling" (list . $prefect) | nindent 2 }}
  securityContext: {{- include "abohb.podSecurity" . | nindent 4 }}
  containers:
    - name: prefect
      image: {{ include "abohb.image" (list . .Values.image.controller) | quote }}
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      {{- if eq $part "prefect" }}
      command: [prefect, server, start, --host, 0.0.0.0, --port, "4200"{{ if $prefect.redis.existingSecret }}, --no-services{{ end }}]
      ports: [{name: http, containerPort: 4200}]
      startupProbe:
        httpGet: {path: /api/health, port: http}
        periodSeconds: 2
        timeoutSeconds: 5
        failureThreshold: 120 # the first start makes the database
      livenessProbe:
        httpGet: {path: /api/health, port: http}
        periodSeconds: 20
        timeoutSeconds: 10
        failureThreshold: 6
      readinessProbe:
        httpGet: {path: /api/health, port: http}
        timeoutSeconds: 5
      {{- else }}
      # No probe: it answers nothing by HTTP, and a process that has lost a service looks like any other. Runs that stay
      # Scheduled tell; one that ends is started again.
      command: [prefect, server, services, start]
      {{- end }}
      env:
        {{- include "abohb.env.common" . | nindent 8 }}
        - {name: PREFECT_HOME, value: {{ include "abohb.sqlite" . | empty | ternary "/tmp/prefect" "/var/lib/prefect" }}}
        - {name: PREFECT_SERVER_UI_ENABLED, value: {{ $prefect.ui | quote }}}
        - {name: PREFECT_SERVER_UI_API_URL, value: /api} # by whatever name the UI was reached
        - {name: PREFECT_SERVER_UI_STATIC_DIRECTORY, value: /tmp/ui}
        - {name: PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT, value: "false"}
        - {name: PREFECT_SERVER_ANALYTICS_ENABLED, value: "false"}
        - {name: PREFECT_SERVER_DATABASE_TIMEOUT, value: "60"} # seconds: SQLite has one writer, others wait for it
        - {name: DO_NOT_TRACK, value: "1"}
        {{- with $prefect.database.existingSecret }}
        - name: PREFECT_SERVER_DATABASE_CONNECTION_URL
          valueFrom: {secretKeyRef: {name: {{ . | quote }}, key: {{ $prefect.database.key }}}}
        {{- end }}
        {{- with include "abohb.authSecret" . }}
        - name: PREFECT_SERVER_API_AUTH_STRING
          valueFrom: {secretKeyRef: {name: {{ . | quote }}, key: auth-string}}
        {{- end }}
        {{- if $prefect.redis.existingSecret }}
        {{- include "abohb.prefect.redis" $prefect.redis | nindent 8 }}
        {{- end }}
        {{- with $prefect.extraEnv }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      resources: {{- toYaml $prefect.resources | nindent 8 }}
      securityContext: {{- include "abohb.containerSecurity" . | nindent 8 }}
      volumeMounts:
        {{- include "abohb.mounts" (list . false) | nindent 8 }}
        {{- if include "abohb.sqlite" . }}
        - {name: data, mountPath: /var/lib/prefect}
        {{- end }}
  volumes:
    {{- include "abohb.volumes" (list . false) | nindent 4 }}
    {{- if include "abohb.sqlite" . }}
    - name: data
      persistentVolumeClaim: {claimName: {{ $prefect.storage.existingClaim | default (printf "%s-prefect" .Release.Name) | quote }}}
    {{- end }}
{{- end }}
{{- end }}

{{/* Takes prefect.redis. */}}
{{- define "abohb.prefect.redis" -}}
- {name: PREFECT_MESSAGING_BROKER, value: prefect_redis.messaging}
- {name: PREFECT_MESSAGING_CACHE, value: prefect_redis.messaging}
- {name: PREFECT_SERVER_EVENTS_CAUSAL_ORDERING, value: prefect_redis.ordering}
- {name: PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE, value: prefect_redis.lease_storage}
- {name: PREFECT_SERVER_WORKER_CHANNEL_CLEANUP_QUEUE_STORAGE, value: prefect_redis.cleanup_queue}
{{- $redis := . }}
{{- range list "PREFECT_REDIS_MESSAGING_URL" "PREFECT_REDIS_WORKER_CLEANUP_QUEUE_URL" "PREFECT_SERVER_DOCKET_URL" }}
- name: {{ . }}
  valueFrom: {secretKeyRef: {name: {{ $redis.existingSecret | quote }}, key: {{ $redis.key | quote }}}}
{{- end }}
{{- end }}
