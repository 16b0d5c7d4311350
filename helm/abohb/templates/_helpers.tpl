{{/* Names are `<release>-<part>`. Each definition takes the root context unless it says otherwise. */}}

{{- define "abohb.labels" -}}
app.kubernetes.io/name: abohb
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{/* (list . "part"): what selects the pods of a part; it can never change. */}}
{{- define "abohb.selector" -}}
app.kubernetes.io/name: abohb
app.kubernetes.io/instance: {{ (index . 0).Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{/* Pods of the release, as a selector: Prefect's worker gives those of studies another app.kubernetes.io/name.
Trials are none, whatever a patch labels them. */}}
{{- define "abohb.ours" -}}
matchLabels: {app.kubernetes.io/instance: {{ .Release.Name }}}
matchExpressions: [{key: app.kubernetes.io/name, operator: NotIn, values: [abohb-trial]}]
{{- end }}

{{/* (list . "part"): metadata of an object of the release's namespace. */}}
{{- define "abohb.metadata" -}}
name: {{ (index . 0).Release.Name }}-{{ index . 1 }}
namespace: {{ (index . 0).Release.Namespace | quote }}
labels:
  {{- include "abohb.labels" (index . 0) | nindent 2 }}
  app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{/* (list . "name of an image of ours") */}}
{{- define "abohb.image" -}}
{{- $image := (index . 0).Values.image -}}
{{- with $image.registry }}{{ trimSuffix "/" . }}/{{ end }}{{ index . 1 }}:{{ $image.tag | default (index . 0).Chart.AppVersion }}
{{- end }}

{{/* -- what there is: "true" or "" -- */}}

{{- define "abohb.minio" -}}
{{- if and .Values.minio.enabled (not .Values.store.endpoint) (not .Values.store.existingSecret) }}true{{ end }}
{{- end }}

{{- define "abohb.server" -}}
{{- if not .Values.prefect.apiUrl }}true{{ end }}
{{- end }}

{{- define "abohb.sqlite" -}}
{{- if and (include "abohb.server" .) (not .Values.prefect.database.existingSecret) }}true{{ end }}
{{- end }}

{{- define "abohb.workPool" -}}
{{- if eq .Values.controller.mode "workPool" }}true{{ end }}
{{- end }}

{{/* -- where things are -- */}}

{{- define "abohb.trialsNamespace" -}}
{{ .Values.trials.namespace | default .Release.Namespace }}
{{- end }}

{{/* All namespaces where trials may run, as a list in JSON. */}}
{{- define "abohb.trialsNamespaces" -}}
{{- $more := concat .Values.policy.namespaces (compact (list (dig "namespace" "" .Values.policy.defaults))) -}}
{{- toJson (uniq (prepend $more (include "abohb.trialsNamespace" .))) -}}
{{- end }}

{{- define "abohb.apiUrl" -}}
{{ .Values.prefect.apiUrl | default (printf "http://%s-prefect.%s.svc:%v/api" .Release.Name .Release.Namespace .Values.prefect.service.port) }}
{{- end }}

{{- define "abohb.authSecret" -}}
{{- if .Values.prefect.auth.existingSecret }}{{ .Values.prefect.auth.existingSecret }}
{{- else if .Values.prefect.auth.enabled }}{{ .Release.Name }}-auth
{{- end }}
{{- end }}

{{- define "abohb.storeEndpoint" -}}
{{- if .Values.store.endpoint }}{{ .Values.store.endpoint }}
{{- else if include "abohb.minio" . }}http://{{ .Release.Name }}-minio.{{ .Release.Namespace }}.svc:9000
{{- end }}
{{- end }}

{{- define "abohb.storeSecret" -}}
{{- if .Values.store.existingSecret }}{{ .Values.store.existingSecret }}
{{- else if include "abohb.minio" . }}{{ .Release.Name }}-store
{{- end }}
{{- end }}

{{- define "abohb.storeBucket" -}}
{{ (urlParse .Values.store.url).host }}
{{- end }}

{{- define "abohb.trialsPriority" -}}
{{- if .Values.priorityClasses.create }}{{ .Release.Namespace }}-{{ .Release.Name }}-trials{{ end }}
{{- end }}

{{/* (list . "namespace"): of the objects there. In a namespace of others another release may have our name. */}}
{{- define "abohb.trialsName" -}}
{{- $root := index . 0 -}}
{{- if ne (index . 1) (include "abohb.trialsNamespace" $root) }}{{ $root.Release.Namespace }}-{{ end }}{{ $root.Release.Name }}-trials
{{- end }}

{{/* Trials run beside the release's own pods: "true" or "". */}}
{{- define "abohb.trialsHere" -}}
{{- if eq .Release.Namespace (include "abohb.trialsNamespace" .) }}true{{ end }}
{{- end }}

{{/* By which a quota tells the trials' pods from ours, in one namespace. A namespace of the trials' own needs none. */}}
{{- define "abohb.quotaPriority" -}}
{{- if and .Values.priorityClasses.create .Values.quota.hard (include "abohb.trialsHere" .) }}
{{- (fromYaml (include "abohb.policy" .)).defaults.priority_class }}
{{- end }}
{{- end }}

{{- define "abohb.keep" -}}
{{- if .Values.keepData }}helm.sh/resource-policy: keep{{ end }}
{{- end }}

{{/* -- pods -- */}}

{{/* What Pod Security `restricted` asks for, of the pod. */}}
{{- define "abohb.podSecurity" -}}
runAsNonRoot: true
runAsUser: 1000
runAsGroup: 1000
fsGroup: 1000
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{/* ... and of each container. */}}
{{- define "abohb.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{- define "abohb.pullSecrets" -}}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . | quote }}
  {{- end }}
{{- end }}
{{- end }}

{{/* (list . values of the part): where its pods run, and before whom. */}}
{{- define "abohb.scheduling" -}}
{{- $values := index . 1 -}}
{{- if (index . 0).Values.priorityClasses.create }}
priorityClassName: {{ (index . 0).Release.Namespace }}-{{ (index . 0).Release.Name }}-server
{{- end }}
{{- with $values.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* -- variables -- */}}

{{- define "abohb.env.common" -}}
- {name: HOME, value: /tmp}
{{- with .Values.ca.existingConfigMap }}
{{- range list "SSL_CERT_FILE" "REQUESTS_CA_BUNDLE" "AWS_CA_BUNDLE" "PREFECT_API_SSL_CERT_FILE" }}
- {name: {{ . }}, value: /etc/abohb-ca/ca.crt}
{{- end }}
{{- end }}
{{- if or .Values.proxy.http .Values.proxy.https }}
{{- $proxy := .Values.proxy }}
{{- range $name, $value := dict "HTTP_PROXY" $proxy.http "HTTPS_PROXY" $proxy.https }}
{{- if $value }}
- {name: {{ $name }}, value: {{ $value | quote }}}
- {name: {{ lower $name }}, value: {{ $value | quote }}}
{{- end }}
{{- end }}
{{- $own := "localhost,127.0.0.1,.svc,.svc.cluster.local,$(KUBERNETES_SERVICE_HOST)" }}
{{- range list "NO_PROXY" "no_proxy" }}
- {name: {{ . }}, value: {{ list $own $proxy.noProxy | compact | join "," | quote }}}
{{- end }}
{{- end }}
{{- end }}

{{/* Of the programs that talk to Prefect. */}}
{{- define "abohb.env.prefect" -}}
- {name: PREFECT_API_URL, value: {{ include "abohb.apiUrl" . | quote }}}
- {name: PREFECT_HOME, value: /tmp/prefect}
- {name: DO_NOT_TRACK, value: "1"}
{{- with include "abohb.authSecret" . }}
- name: PREFECT_API_AUTH_STRING
  valueFrom: {secretKeyRef: {name: {{ . | quote }}, key: auth-string}}
{{- end }}
{{- end }}

{{/* Of the programs that run studies. */}}
{{- define "abohb.env.studies" -}}
- {name: ABOHB_STORE, value: {{ .Values.store.url | quote }}}
- {name: ABOHB_AGENT_IMAGE, value: {{ include "abohb.image" (list . .Values.image.agent) | quote }}}
- {name: ABOHB_TRIALS_NAMESPACE, value: {{ include "abohb.trialsNamespace" . | quote }}}
- {name: ABOHB_POLICY, value: /etc/abohb/policy.yaml}
- {name: AWS_REGION, value: {{ .Values.store.region | quote }}}
{{- with .Values.ca.existingConfigMap }}
- {name: ABOHB_TRIALS_CA, value: {{ . | quote }}}
{{- end }}
{{- with include "abohb.storeEndpoint" . }}
- {name: ABOHB_S3_ENDPOINT, value: {{ . | quote }}}
{{- end }}
{{- with include "abohb.storeSecret" . }}
{{- range list "AWS_ACCESS_KEY_ID" "AWS_SECRET_ACCESS_KEY" }}
- name: {{ . }}
  valueFrom: {secretKeyRef: {name: {{ include "abohb.storeSecret" $ | quote }}, key: {{ . }}}}
{{- end }}
{{- end }}
{{- end }}

{{/* -- volumes: /tmp, the certificates, and (list . true) the policy -- */}}

{{- define "abohb.mounts" -}}
- {name: tmp, mountPath: /tmp}
{{- if (index . 0).Values.ca.existingConfigMap }}
- {name: ca, mountPath: /etc/abohb-ca, readOnly: true}
{{- end }}
{{- if index . 1 }}
- {name: policy, mountPath: /etc/abohb, readOnly: true}
{{- end }}
{{- end }}

{{- define "abohb.volumes" -}}
- name: tmp
  emptyDir: {}
{{- with (index . 0).Values.ca.existingConfigMap }}
- name: ca
  configMap: {name: {{ . | quote }}}
{{- end }}
{{- if index . 1 }}
- name: policy
  configMap: {name: {{ (index . 0).Release.Name }}.policy}
{{- end }}
{{- end }}

{{/* Of a store outside. */}}
{{- define "abohb.storePort" -}}
{{- $url := urlParse (include "abohb.storeEndpoint" . | default "https://aws") -}}
{{- regexFind "[0-9]+$" (regexFind ":[0-9]+$" $url.host) | default (eq $url.scheme "http" | ternary "80" "443") -}}
{{- end }}
