module cbmdhi/toolchain/kubernetes-addons

go 1.26.4

tool sigs.k8s.io/metrics-server/cmd/metrics-server
