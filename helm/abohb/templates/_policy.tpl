{{/* What flows/policy/apply.py reads: the values, less the lists of which empty means more than none. */}}
{{- define "abohb.policy" -}}
{{- $policy := deepCopy .Values.policy -}}
{{- range list "registries" "stores" -}}
{{- if not (get $policy .) }}{{ $_ := unset $policy . }}{{ end -}}
{{- end -}}
{{- with include "abohb.trialsPriority" . -}}
{{- $_ := set $policy "defaults" (merge $policy.defaults (dict "priority_class" .)) -}}
{{- end -}}
{{- toYaml $policy -}}
{{- end }}
