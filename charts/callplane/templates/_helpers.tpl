{{/* Labels of every object. Called with (dict "root" $ "component" "operator"). */}}
{{- define "callplane.labels" -}}
app.kubernetes.io/name: callplane
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{/* What the operator's pods are known by. Never changes: a Deployment's selector cannot. */}}
{{- define "callplane.operatorSelector" -}}
app.kubernetes.io/name: callplane
app.kubernetes.io/component: operator
{{- end }}

{{- define "callplane.gatewaySelector" -}}
app.kubernetes.io/name: callplane
app.kubernetes.io/component: gateway
{{- end }}

{{/* An image: (dict "root" $ "name" "operator"). */}}
{{- define "callplane.image" -}}
{{- printf "%s/%s:%s" .root.Values.image.registry .name (.root.Values.image.tag | default .root.Chart.AppVersion) -}}
{{- end }}

{{/* Pods of ours meet the restricted pod security standard. */}}
{{- define "callplane.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "callplane.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{/* The operator's user name, as admission sees it. */}}
{{- define "callplane.operatorUser" -}}
system:serviceaccount:{{ .Release.Namespace }}:callplane-operator
{{- end }}

{{/* The gateway's, likewise. */}}
{{- define "callplane.gatewayUser" -}}
system:serviceaccount:{{ .Release.Namespace }}:callplane-gateway
{{- end }}

{{/* CEL: the caller is the operator, or someone who may break the glass. */}}
{{- define "callplane.trusted" -}}
request.userInfo.username == '{{ include "callplane.operatorUser" . }}'
{{- range .Values.policies.breakGlassGroups }} || '{{ . }}' in request.userInfo.groups{{ end }}
{{- end }}
