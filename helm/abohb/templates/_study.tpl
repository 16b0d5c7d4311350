{{/* The Job of one study's pod, which the worker makes. Nothing in it is for a user of Prefect to fill in. */}}
{{- define "abohb.study.job" -}}
{{- if include "abohb.workPool" . -}}
apiVersion: batch/v1
kind: Job
metadata:
  namespace: {{ .Release.Namespace | quote }}
  generateName: {{ .Release.Name }}-study-
  labels: {{- include "abohb.selector" (list . "study") | nindent 4 }}
spec:
  backoffLimit: 0 # the controller starts it again
  ttlSecondsAfterFinished: 3600
  template:
    metadata:
      labels: {{- include "abohb.selector" (list . "study") | nindent 8 }}
    spec:
      # Prefect's worker takes no Job without these two here, where they mean nothing.
      completions: 1
      parallelism: 1
      restartPolicy: Never
      serviceAccountName: {{ .Release.Name }}-controller
      automountServiceAccountToken: true
      enableServiceLinks: false
      terminationGracePeriodSeconds: 60
      {{- include "abohb.pullSecrets" . | nindent 6 }}
      {{- include "abohb.scheduling" (list . .Values.controller) | nindent 6 }}
      securityContext: {{- include "abohb.podSecurity" . | nindent 8 }}
      containers:
        - name: prefect-job
          image: {{ include "abohb.image" (list . .Values.image.controller) | quote }}
          imagePullPolicy: {{ .Values.image.pullPolicy }}
          command: [python, -m, flows.deployment.child]
          args: [] # else the worker adds its own
          ports: [{name: metrics, containerPort: 9090}]
          env: {{- include "abohb.study.env" . | nindent 12 }}
          resources: {{- toYaml .Values.controller.workPool.studyResources | nindent 12 }}
          securityContext: {{- include "abohb.containerSecurity" . | nindent 12 }}
          volumeMounts:
            {{- include "abohb.mounts" (list . true) | nindent 12 }}
      volumes:
        {{- include "abohb.volumes" (list . true) | nindent 8 }}
{{- end }}
{{- end }}

{{/* Of one name the last: extraEnv goes before ours. */}}
{{- define "abohb.study.env" -}}
{{- $parts := list (include "abohb.env.common" .) (include "abohb.env.prefect" .) (include "abohb.env.studies" .) -}}
{{- $all := fromYamlArray (join "\n" $parts) -}}
{{- $all = append $all (dict "name" "ABOHB_METRICS_PORT" "value" "9090") -}}
{{- $all = concat $all .Values.controller.extraEnv -}}
{{- $names := dict -}}
{{- $found := list -}}
{{- range reverse $all -}}
{{- if not (hasKey $names .name) -}}{{- $found = prepend $found . -}}{{- $_ := set $names .name true -}}{{- end -}}
{{- end -}}
{{- toYaml $found -}}
{{- end }}

{{/* What the pod of a study may have as variables, each a list: its name, where it is from, and what: those of the Job
above, and those that Prefect's worker adds: what it is told itself
(worker.yaml), as its settings spell it, and what it runs. */}}
{{- define "abohb.study.variables" -}}
{{- $all := list -}}
{{- range (first (fromYaml (include "abohb.study.job" .)).spec.template.spec.containers).env -}}
{{- $from := list "value" (.value | default "") -}}
{{- range $kind, $of := .valueFrom | default dict -}}
{{- $from = compact (list $kind $of.name $of.key $of.fieldPath $of.resource) -}}
{{- end -}}
{{- $all = append $all (prepend $from .name) -}}
{{- end -}}
{{- $worker := dict "PREFECT_API_URL" (include "abohb.apiUrl" .) "PREFECT_HOME" "/tmp/prefect" "PREFECT_WORKER_QUERY_SECONDS" "2.0" "PREFECT_SERVER_EPHEMERAL_ENABLED" "True" "PREFECT_FLOW_RUN_EXECUTE_SIGTERM_BEHAVIOR" "reschedule" "PREFECT__WORKER_NAME" .Release.Name "PREFECT__FLOW_NAME" "tune" "PREFECT__DEPLOYMENT_NAME" "tune" -}}
{{- range $name, $value := $worker }}{{ $all = append $all (list $name "value" $value) }}{{ end -}}
{{- toJson (uniq $all) -}}
{{- end }}
