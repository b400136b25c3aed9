"""The `nightshift` command: the whole system on one machine (`local`), and batches from a shell (`submit`)."""
