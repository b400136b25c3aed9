"""The HTTP role: OpenAI's Batch and Files calls to resources and bytes, and back.

It decides nothing about a batch's life: it creates a BatchJob, asks for a cancel by its spec, and shows what is.
"""
