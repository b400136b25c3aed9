"""Every statement, in the order of the page: importing the chapters collects them.

`transport` comes last, for it looks at all answers that the others were given.
"""

from tests.conformance import files, batch_object, batches, outcomes, uploads, lists, extensions, transport  # noqa: F401, I001 - order of the page
from tests.conformance.statements import STATEMENTS

__all__ = ["STATEMENTS"]
