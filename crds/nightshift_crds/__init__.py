"""The contract that every role shares: resources, lifecycle, names, lines, errors, and the two ports.

It knows no role. The API, the operator, the processor and the command line import it, never each other.
"""
