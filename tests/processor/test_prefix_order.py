"""What the order of lines is worth to a model server with a prefix cache, as far as a model of one can tell."""

import pytest

from tests.processor.prefix_cache import PrefixCache, Workload, hit_rate, ordered, prompt_of

PROMPTS = Workload("60 system prompts", 600, 60, 400, 50)
DOCUMENTS = Workload("150 documents", 600, 150, 600, 20)
ALIKE = Workload("60 system prompts that begin alike", 600, 60, 200, 50, common_tokens=500)


def rates_of(workload: Workload, blocks: int) -> tuple[float, float]:
    """Give the hit rates in the order of the file and in that of prefixes."""
    lines = workload.build()
    in_file, sent = ([*map(prompt_of, order)] for order in (lines, ordered(lines)))
    assert sorted(in_file) == sorted(sent)
    return tuple(hit_rate(order, PrefixCache(blocks, is_early=True), 8) for order in (in_file, sent))  # type: ignore[return-value]


@pytest.mark.parametrize("workload", [PROMPTS, DOCUMENTS, ALIKE], ids=lambda workload: workload.name)
def test_in_the_order_of_prefixes_a_small_cache_finds_nearly_all_that_any_would(workload: Workload) -> None:
    in_file, sent = rates_of(workload, blocks=500)
    _, best = rates_of(workload, blocks=1_000_000)
    assert sent > in_file + 0.1
    assert sent > 0.98 * best


def test_a_cache_that_holds_everything_is_none_the_worse_for_it() -> None:
    in_file, sent = rates_of(PROMPTS, blocks=1_000_000)
    assert sent >= in_file
