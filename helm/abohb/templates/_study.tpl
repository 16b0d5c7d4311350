{{/* The Job of one study's pod, which the worker makes. Nothing in it is for a user of Prefect to fill in. */}}
{{- define "abohb.study.job" -}}
{{- if include "abohb.workPool" . -}}
apiVersion: batch/v1
kind: Job
metadata:
  namespace: {{ .Release.Namespace }}
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
          env:
            {{- include "abohb.env.common" . | nindent 12 }}
            {{- include "abohb.env.prefect" . | nindent 12 }}
            {{- include "abohb.env.studies" . | nindent 12 }}
            - {name: ABOHB_METRICS_PORT, value: "9090"}
            {{- with .Values.controller.extraEnv }}
            {{- toYaml . | nindent 12 }}
            {{- end }}
          resources: {{- toYaml .Values.controller.workPool.studyResources | nindent 12 }}
          securityContext: {{- include "abohb.containerSecurity" . | nindent 12 }}
          volumeMounts:
            {{- include "abohb.mounts" (list . true) | nindent 12 }}
      volumes:
        {{- include "abohb.volumes" (list . true) | nindent 8 }}
{{- end }}
{{- end }}
