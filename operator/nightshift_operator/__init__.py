"""The operator role: takes every batch through its life.

Level-triggered: a watch or a clock puts a name on the queue, `observe` reads what is, `decide` says what follows,
`apply` does it and writes the status once, last. Every file of this folder is one of these steps or one policy.
"""
