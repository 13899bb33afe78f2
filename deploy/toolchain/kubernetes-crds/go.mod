module cbmdhi/toolchain/kubernetes-crds

go 1.26.0

// Only their files are used: the definitions of the resources that deploy/k8s names.
require (
	github.com/cert-manager/cert-manager v1.21.2
	github.com/kedacore/keda/v2 v2.21.0
	github.com/prometheus-operator/prometheus-operator v0.85.0
)
