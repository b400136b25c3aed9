"""The container of a Job: `inspect` an input, `run` its lines, `seal` its files.

It talks to the bucket and to the model server, and to nothing else: it has no Kubernetes token. What it has done is
what it has written; its exit code is a hint.
"""
