"""API servers under load: ours, and a real kube-apiserver on etcd when there is one, with the same clients in turns."""
