"""`nightshift local`: the same programs as on Kubernetes, supervised on one machine.

`supervisor` starts the API, the operator and the `runner`; the runner is Job controller and kubelet in one and starts
processors from the same Job manifests. Nothing here is used on Kubernetes.
"""
