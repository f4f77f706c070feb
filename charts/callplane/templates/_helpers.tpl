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

{{/* The pod security standard that the release's namespace enforces and that asks for something, where Helm can see it. */}}
{{- define "callplane.enforcedStandard" -}}
{{- $namespace := lookup "v1" "Namespace" "" .Release.Namespace }}
{{- $enforced := dig "metadata" "labels" "pod-security.kubernetes.io/enforce" "" ($namespace | default dict) }}
{{- if has $enforced (list "baseline" "restricted") }}{{ $enforced }}{{ end }}
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

{{- define "callplane.coturnSelector" -}}
app.kubernetes.io/name: callplane
app.kubernetes.io/component: coturn
{{- end }}

{{- define "callplane.redisSelector" -}}
app.kubernetes.io/name: callplane
app.kubernetes.io/component: redis
{{- end }}

{{- define "callplane.postgresqlSelector" -}}
app.kubernetes.io/name: callplane
app.kubernetes.io/component: postgresql
{{- end }}

{{/* Name of the Secret with the URL of PostgreSQL under url; empty where there is none. */}}
{{- define "callplane.postgresSecret" -}}
{{- if .Values.postgresql.enabled }}callplane-postgresql{{ else }}{{ .Values.records.postgresSecret }}{{ end -}}
{{- end }}

{{/* URLs of TURN servers, one a line. The host * stands for each machine with a ready coturn pod. */}}
{{- define "callplane.turnUrls" -}}
{{- if .Values.turn.enabled -}}
{{- $host := .Values.turn.host | default "*" -}}
{{- if contains ":" $host }}{{ $host = printf "[%s]" $host }}{{ end -}}
turn:{{ $host }}:{{ .Values.turn.ports.listening }}?transport=udp
turn:{{ $host }}:{{ .Values.turn.ports.listening }}?transport=tcp
{{- if .Values.turn.tls.secretName }}
turns:{{ $host }}:{{ .Values.turn.ports.tls }}?transport=tcp
{{- end }}
{{- else -}}
{{- join "\n" .Values.turn.external.urls -}}
{{- end -}}
{{- end }}

{{/* Name of the Secret with the URL of Redis under url; empty where there is no Redis. */}}
{{- define "callplane.redisSecret" -}}
{{- if .Values.redis.enabled }}callplane-redis{{ else }}{{ .Values.redis.external.secretName }}{{ end -}}
{{- end }}

{{/* What cannot be together. */}}
{{- define "callplane.checkTurn" -}}
{{- if and .Values.turn.enabled .Values.turn.external.urls }}
{{- fail "turn.external.urls: set turn.enabled to false, or leave them out: clients are told of one or the other" }}
{{- end }}
{{- if and .Values.turn.external.secretName (not .Values.turn.external.urls) }}
{{- fail "turn.external.secretName: set turn.external.urls as well" }}
{{- end }}
{{- if and .Values.redis.enabled .Values.redis.external.secretName }}
{{- fail "redis.external.secretName: set redis.enabled to false, or leave it out" }}
{{- end }}
{{- $rotates := or .Values.turn.enabled (and .Values.turn.external.urls (not .Values.turn.external.secretName)) }}
{{- if and $rotates (not (include "callplane.redisSecret" .)) }}
{{- fail "redis.enabled: coturn learns from Redis which credentials are good: enable it, or set redis.external.secretName" }}
{{- end }}
{{- if and .Values.turn.tls.secretName (not .Values.turn.host) }}
{{- fail "turn.host: with turn.tls.secretName it has to be the name in the certificate" }}
{{- end }}
{{- end }}
