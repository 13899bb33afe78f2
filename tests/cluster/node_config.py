"""What the programs of a node are told: containerd, the pod network, kubelet, kube-proxy. Pure."""

from pathlib import Path
from typing import Any

NAME = "node"
ADDRESS = "10.100.0.1"
GATEWAY = "10.100.0.254"
PODS_RANGE = "10.200.0.0/24"
DNS_ADDRESS = "10.96.0.10"
DOMAIN = "cluster.local"
# Where others than the kubelet look for it: the run's /run is its own.
SOCKET = Path("/run/containerd/containerd.sock")
# Of containerd's pods, and of the cluster's own services: images.py makes it.
IMAGE = "local.test/kubernetes:1"


def containerd(folder: Path, plugins: Path) -> str:
    """config.toml. `folder`: images and containers; `plugins`: of the pod network."""
    return f"""version = 2
root = "{folder / "containerd"}"
state = "/run/containerd-state"
disabled_plugins = [
  "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.aufs",
]
[grpc]
  address = "{SOCKET}"
[plugins."io.containerd.internal.v1.opt"]
  path = "{folder / "opt"}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{IMAGE}"
  disable_apparmor = true
  # Without CAP_SYS_RESOURCE a program cannot be made less likely to be killed than the one that starts it.
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{plugins}"
    conf_dir = "{folder / "cni"}"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
"""


def pod_network() -> dict[str, Any]:
    """The pod network: a cable from each pod to the node, which routes.

    A bridge would hand packets between pods on without the node's packet filter seeing them, and an answer
    from a Service's pod would not come back under the Service's address.
    """
    return {
        "cniVersion": "1.0.0",
        "name": "pods",
        "plugins": [
            {
                "type": "ptp",
                "ipMasq": False,
                "ipam": {
                    "type": "host-local",
                    "dataDir": "/run/cni-addresses",
                    "ranges": [[{"subnet": PODS_RANGE}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                },
            }
        ],
    }


def kubelet(cgroup: str) -> dict[str, Any]:
    """KubeletConfiguration; pods live below `cgroup`."""
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": ADDRESS,
        # Its address is in a network that is ours alone.
        "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
        "authorization": {"mode": "AlwaysAllow"},
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{cgroup}",
        "failCgroupV1": False,
        "failSwapOn": False,
        "containerRuntimeEndpoint": f"unix://{SOCKET}",
        "clusterDNS": [DNS_ADDRESS],
        "clusterDomain": DOMAIN,
        "resolvConf": "",
        "makeIPTablesUtilChains": False,
        "volumePluginDir": "/run/volume-plugins",
        # What else lies on the disk of somebody's machine is not this node's business.
        "evictionHard": {"memory.available": "100Mi"},
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "nodeStatusUpdateFrequency": "2s",
        "oomScoreAdj": 0,
    }


def proxy(kubeconfig: Path) -> dict[str, Any]:
    """KubeProxyConfiguration."""
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "oomScoreAdj": 0,
        "hostnameOverride": NAME,
        "clusterCIDR": PODS_RANGE,
        "bindAddress": ADDRESS,
        "clientConnection": {"kubeconfig": str(kubeconfig)},
        # The kernel's limits are not ours to change.
        "conntrack": {
            "maxPerCore": 0,
            "min": 0,
            "tcpEstablishedTimeout": "0s",
            "tcpCloseWaitTimeout": "0s",
        },
        "nodePortAddresses": [f"{ADDRESS}/32"],
    }


def resolver() -> str:
    """resolv.conf by which the node's own programs find Services: `gateway.mercy`."""
    return f"nameserver {DNS_ADDRESS}\nsearch svc.{DOMAIN} {DOMAIN}\noptions ndots:5\n"
