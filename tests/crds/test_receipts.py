"""What a batch costs: exact whatever the numbers, rounded once."""

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightshift_crds.models import Cost, Pricing, TokenUsage
from nightshift_crds.receipts import cost_of, cost_per_million

MICRO = Fraction(1, 10**6)
PRICES = st.decimals(0, 10_000, places=4)
TOKENS = st.integers(0, 10**12)


def usage(tokens_in: int, tokens_out: int = 0) -> TokenUsage:
    return TokenUsage(input_tokens=tokens_in, output_tokens=tokens_out, total_tokens=tokens_in + tokens_out)


@pytest.mark.parametrize(
    ("pricing", "tokens", "gpu_seconds", "total"),
    [
        ({}, usage(10**9, 10**9), 10**9, "0.000000"),
        ({"per_million_input_tokens": 0.1}, usage(3), None, "0.000000"),
        ({"per_million_input_tokens": 0.1}, usage(30), None, "0.000003"),
        ({"per_million_input_tokens": 0.1, "per_million_output_tokens": 0.2}, usage(10**6, 10**6), 0, "0.300000"),
        ({"per_million_output_tokens": 1e-07}, usage(0, 10**12), 0, "0.100000"),
        ({"per_gpu_hour": 0.7}, None, 3_600, "0.700000"),
        ({"per_gpu_hour": 1}, None, 1, "0.000278"),
        ({"per_million_input_tokens": 0.5}, usage(1), 0, "0.000000"),
        ({"per_million_input_tokens": 0.5}, usage(3), 0, "0.000002"),
        ({"per_million_input_tokens": 1_000_000_000}, usage(10**15), 0, f"{10**18}.000000"),
    ],
)
def test_a_cost_is_what_the_prices_make_of_tokens_and_gpu_seconds(
    pricing: dict[str, float], tokens: TokenUsage | None, gpu_seconds: int | None, total: str
) -> None:
    assert cost_of(Pricing(**pricing, currency="EUR"), tokens, gpu_seconds) == Cost(currency="EUR", total=total)


@given(st.tuples(PRICES, PRICES, PRICES), TOKENS, TOKENS, st.integers(0, 10**9))
def test_a_cost_is_exact_to_half_a_millionth(
    prices: tuple[Decimal, Decimal, Decimal], tokens_in: int, tokens_out: int, gpu_seconds: int
) -> None:
    price_in, price_out, price_gpu = prices
    pricing = Pricing(
        per_million_input_tokens=float(price_in),
        per_million_output_tokens=float(price_out),
        per_gpu_hour=float(price_gpu),
    )
    exact = (Fraction(price_in) * tokens_in + Fraction(price_out) * tokens_out) / 10**6
    exact += Fraction(price_gpu) * gpu_seconds / 3_600
    total = cost_of(pricing, usage(tokens_in, tokens_out), gpu_seconds).total
    assert abs(Fraction(total) - exact) <= MICRO / 2
    assert Cost(currency="USD", total=total).dump() == {"currency": "USD", "total": total}


@given(st.lists(st.tuples(st.integers(0, 10**9), st.integers(0, 10**6)), min_size=2, max_size=6), PRICES)
def test_a_cost_never_falls_while_what_it_counts_does_not(steps: list[tuple[int, int]], price: Decimal) -> None:
    pricing = Pricing(per_million_input_tokens=float(price), per_gpu_hour=float(price))
    costs, tokens, seconds = [], 0, 0
    for more_tokens, more_seconds in steps:
        tokens, seconds = tokens + more_tokens, seconds + more_seconds
        costs.append(Fraction(cost_of(pricing, usage(tokens), seconds).total))
    assert costs == sorted(costs)


@pytest.mark.parametrize(
    ("total", "tokens", "per_million"),
    [("1.500000", usage(500_000, 250_000), 2.0), ("0.000001", usage(3), 0.333333), ("1.000000", usage(0), None)],
)
def test_a_cost_is_spread_over_all_tokens(total: str, tokens: TokenUsage, per_million: float | None) -> None:
    assert cost_per_million(Cost(currency="USD", total=total), tokens) == per_million


def test_a_cost_without_any_usage_is_spread_over_nothing() -> None:
    assert cost_per_million(Cost(currency="USD", total="1.000000"), None) is None
