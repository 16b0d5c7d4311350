{{/* What the schema cannot say: values that do not go together. */}}
{{- define "abohb.checks" -}}
{{- $prefect := .Values.prefect -}}
{{- if include "abohb.server" . -}}
{{- if and (gt (int $prefect.replicas) 1) (not (and $prefect.database.existingSecret $prefect.redis.existingSecret)) -}}
{{- fail (printf "prefect.replicas is %v: more than one server needs a database and messages that they share: set prefect.database.existingSecret (PostgreSQL) and prefect.redis.existingSecret, or replicas to 1" $prefect.replicas) -}}
{{- end -}}
{{- if and .Values.ingress.enabled (not .Values.ingress.host) -}}
{{- fail "ingress.enabled is true and ingress.host is empty: set the name by which the UI is reached" -}}
{{- end -}}
{{- else if .Values.ingress.enabled -}}
{{- fail "ingress.enabled is true, but with prefect.apiUrl the chart runs no Prefect server to reach: set one of them" -}}
{{- end -}}
{{- if and .Values.trials.createNamespace (eq (include "abohb.trialsNamespace" .) .Release.Namespace) -}}
{{- fail "trials.createNamespace is true, but trials.namespace is that of the release, which is there: name another" -}}
{{- end -}}
{{- if gt (len .Release.Name) 40 -}}
{{- fail (printf "the name of the release, %s, is longer than 40 characters" .Release.Name) -}}
{{- end -}}
{{- end }}
