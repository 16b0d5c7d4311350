{{/* What the schema cannot say: values that do not go together. */}}
{{- define "abohb.checks" -}}
{{- $prefect := .Values.prefect -}}
{{- if include "abohb.server" . -}}
{{- if and (gt (int $prefect.replicas) 1) (not (and $prefect.database.existingSecret $prefect.redis.existingSecret)) -}}
{{- fail (printf "prefect.replicas is %v: more than one server needs a database and messages that they share: set prefect.database.existingSecret (PostgreSQL) and prefect.redis.existingSecret, or replicas to 1" $prefect.replicas) -}}
{{- end -}}
{{- if and $prefect.redis.existingSecret (not $prefect.database.existingSecret) -}}
{{- fail "prefect.redis.existingSecret is set and prefect.database.existingSecret is not: the server and its services would share one SQLite volume: set prefect.database.existingSecret (PostgreSQL), or leave out Redis" -}}
{{- end -}}
{{- if and (ne $prefect.service.type "ClusterIP") .Values.networkPolicy.enabled (not .Values.networkPolicy.prefectFrom) -}}
{{- fail (printf "prefect.service.type is %s, and the NetworkPolicy lets in nobody from outside: say who may reach the server in networkPolicy.prefectFrom: [{ipBlock: {cidr: 10.0.0.0/8}}], or set networkPolicy.enabled to false" $prefect.service.type) -}}
{{- end -}}
{{- if and .Values.ingress.enabled (not .Values.ingress.host) -}}
{{- fail "ingress.enabled is true and ingress.host is empty: set the name by which the UI is reached" -}}
{{- end -}}
{{- else if .Values.ingress.enabled -}}
{{- fail "ingress.enabled is true, but with prefect.apiUrl the chart runs no Prefect server to reach: set one of them" -}}
{{- end -}}
{{- if and (not (include "abohb.server" .)) $prefect.auth.enabled (not $prefect.auth.existingSecret) -}}
{{- fail "prefect.auth.enabled is true, but with prefect.apiUrl the chart makes no password: put that of your Prefect into a Secret (key auth-string: user:password) and name it in prefect.auth.existingSecret" -}}
{{- end -}}
{{- if and (include "abohb.workPool" .) (not .Values.admission.enabled) (not .Values.controller.workPool.withoutAdmission) -}}
{{- fail "controller.mode is workPool and admission.enabled is false: whoever opens the Prefect UI can write into the work pool what runs with the controller's account: set admission.enabled to true, or controller.workPool.withoutAdmission to true if you trust all of them" -}}
{{- end -}}
{{- if and .Values.admission.enabled (semverCompare "<1.30-0" .Capabilities.KubeVersion.Version) -}}
{{- fail (printf "admission.enabled is true: it needs Kubernetes 1.30, this is %s" .Capabilities.KubeVersion.Version) -}}
{{- end -}}
{{- $counted := list -}}{{/* what the release's own pods have too: all but devices */}}
{{- range $name, $_ := .Values.quota.hard -}}
{{- if not (contains "." (first (splitList "/" $name) | trimPrefix "requests." | trimPrefix "limits.")) -}}{{- $counted = append $counted $name -}}{{- end -}}
{{- end -}}
{{- if and $counted (include "abohb.trialsHere" .) (not .Values.priorityClasses.create) -}}
{{- fail (printf "quota.hard would count the release's own pods too, since trials run in %s: set trials.namespace to another namespace, or priorityClasses.create to true, by which the quota tells them apart" .Release.Namespace) -}}
{{- end -}}
{{- if and .Values.trials.createNamespace (eq (include "abohb.trialsNamespace" .) .Release.Namespace) -}}
{{- fail "trials.createNamespace is true, but trials.namespace is that of the release, which is there: name another" -}}
{{- end -}}
{{- if gt (len .Release.Name) 40 -}}
{{- fail (printf "the name of the release, %s, is longer than 40 characters" .Release.Name) -}}
{{- end -}}
{{- end }}
