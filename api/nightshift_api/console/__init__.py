"""The console: a page at `/console` that is one more client of the public API, and what it needs besides (decision 21).

`sessions` lets a browser in, `guard` keeps other sites out, `pages` serves the files of `static`, `events` tells what
changes, `routes` puts them together.
"""
