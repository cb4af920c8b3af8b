{{/* Names, labels and images that every template shares. */}}

{{- define "weir.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{- define "weir.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- $name := include "weir.name" . -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "weir.sink" -}}{{ include "weir.fullname" . }}-sink{{- end -}}
{{- define "weir.agent" -}}{{ include "weir.fullname" . }}-agent{{- end -}}

{{/* Given (list root component): the labels that select its pods; they never change. */}}
{{- define "weir.selector" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: {{ include "weir.name" $root }}
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{/* Given (list root component): every recommended label. */}}
{{- define "weir.labels" -}}
{{- $root := index . 0 -}}
{{ include "weir.selector" . }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/part-of: weir
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" }}
{{- with $root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Given (list root image): its reference. */}}
{{- define "weir.image" -}}
{{- $root := index . 0 -}}
{{- $image := index . 1 -}}
{{- if $image.digest -}}
{{ $image.repository }}@{{ $image.digest }}
{{- else -}}
{{ $image.repository }}:{{ default $root.Chart.AppVersion $image.tag }}
{{- end -}}
{{- end -}}

{{/* Given (list root component): the name of its service account. */}}
{{- define "weir.serviceAccount" -}}
{{- $root := index . 0 -}}
{{- $part := index $root.Values (index . 1) -}}
{{- if $part.serviceAccount.create -}}
{{ default (printf "%s-%s" (include "weir.fullname" $root) (index . 1)) $part.serviceAccount.name }}
{{- else -}}
{{ default "default" $part.serviceAccount.name }}
{{- end -}}
{{- end -}}

{{/* Given (list root component): where envFile and settings say what, as YAML of a map; names the line it cannot read. */}}
{{- define "weir.settings" -}}
{{- $root := index . 0 -}}
{{- $prefix := printf "WEIR_%s_" (upper (index . 1)) -}}
{{- $settings := dict -}}
{{- range $number, $line := splitList "\n" $root.Values.envFile -}}
{{- $line = trim $line -}}
{{- if and $line (not (hasPrefix "#" $line)) -}}
{{- if not (regexMatch "^WEIR_(SINK|AGENT)_[A-Z0-9_]+=" $line) -}}
{{- fail (printf "envFile, line %d: expected WEIR_SINK_NAME=value or WEIR_AGENT_NAME=value" (add1 $number)) -}}
{{- end -}}
{{- $key := index (splitn "=" 2 $line) "_0" -}}
{{- $value := index (splitn "=" 2 $line) "_1" -}}
{{- if regexMatch "^[\"'].*[\"']$" $value -}}
{{- fail (printf "envFile, line %d: the value of %s stands in quotes; take them away" (add1 $number) $key) -}}
{{- end -}}
{{- if hasPrefix $prefix $key -}}
{{- $_ := set $settings $key $value -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- range $key, $value := (index $root.Values (index . 1)).settings -}}
{{- $_ := set $settings $key (toString $value) -}}
{{- end -}}
{{- toYaml $settings -}}
{{- end -}}

{{/* Settings that are secrets; a test holds them equal to those of .env.example. */}}
{{- define "weir.secretKeys" -}}
- WEIR_AGENT_SINK_TOKEN
- WEIR_AGENT_ENROLL_TOKEN
- WEIR_SINK_TOKEN
{{- end -}}

{{/* Given (list root component): the secrets among its settings, as YAML of a map; empty where there are none. */}}
{{- define "weir.secrets" -}}
{{- $settings := include "weir.settings" . | fromYaml -}}
{{- $secrets := dict -}}
{{- range include "weir.secretKeys" . | fromYamlArray -}}
{{- if hasKey $settings . -}}
{{- $_ := set $secrets . (get $settings .) -}}
{{- end -}}
{{- end -}}
{{- with $secrets }}{{ toYaml . }}{{ end -}}
{{- end -}}

{{/* Given (list root component ours): data of its ConfigMap: ours, and over it the settings that are no secrets. */}}
{{- define "weir.config" -}}
{{- $settings := include "weir.settings" . | fromYaml -}}
{{- range include "weir.secretKeys" . | fromYamlArray -}}
{{- $_ := unset $settings . -}}
{{- end -}}
{{- toYaml (mergeOverwrite (index . 2) $settings) -}}
{{- end -}}

{{/* Given (list root part): where a container's environment comes from, the ConfigMap and the Secret of the release first. */}}
{{- define "weir.envFrom" -}}
{{- $part := index . 2 -}}
- configMapRef:
    name: {{ include (printf "weir.%s" (index . 1)) (index . 0) }}
{{- if include "weir.secrets" . }}
- secretRef:
    name: {{ include (printf "weir.%s" (index . 1)) (index . 0) }}
{{- end }}
{{- with $part.existingConfigMap }}
- configMapRef:
    name: {{ . }}
{{- end }}
{{- with $part.existingSecret }}
- secretRef:
    name: {{ . }}
{{- end }}
{{- with $part.extraEnvFrom }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* What a ConfigMap or Secret that is not ours holds now, so that a change of it rolls the pods with the next upgrade. */}}
{{- define "weir.foreign" -}}
{{- $namespace := (index . 0).Release.Namespace -}}
{{- $part := index . 1 -}}
{{- with $part.existingConfigMap }}{{ (lookup "v1" "ConfigMap" $namespace .).data | toJson }}{{ end -}}
{{- with $part.existingSecret }}{{ (lookup "v1" "Secret" $namespace .).data | toJson }}{{ end -}}
{{- end -}}

{{/* Where agents deliver. */}}
{{- define "weir.sinkUrl" -}}
{{- if .Values.agent.sinkUrl -}}
{{ .Values.agent.sinkUrl }}
{{- else if .Values.sink.enabled -}}
{{ ternary "https" "http" (not (empty .Values.sink.tls.existingSecret)) }}://{{ include "weir.sink" . }}:{{ .Values.sink.service.grpcPort }}
{{- else -}}
{{- fail "agent.sinkUrl is needed when sink.enabled is false: where do readings go?" -}}
{{- end -}}
{{- end -}}

{{/* The Secret whose ca.crt agents trust; empty where they have none. */}}
{{- define "weir.agentCa" -}}
{{- if hasPrefix "https://" (include "weir.sinkUrl" .) -}}
{{- default .Values.sink.tls.existingSecret .Values.agent.tls.caSecret -}}
{{- end -}}
{{- end -}}

{{/* Given (list root probe): the probe, over TLS where the sink speaks it. */}}
{{- define "weir.sinkProbe" -}}
{{- $probe := deepCopy (index . 1) -}}
{{- if and (index . 0).Values.sink.tls.existingSecret (hasKey $probe "httpGet") (not (hasKey $probe.httpGet "scheme")) -}}
{{- $_ := set $probe.httpGet "scheme" "HTTPS" -}}
{{- end -}}
{{- toYaml $probe -}}
{{- end -}}

{{/* Scheduling, the same for every pod. */}}
{{- define "weir.placement" -}}
{{- with .nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .topologySpreadConstraints }}
topologySpreadConstraints:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end -}}
