"""What a batch costs: its tokens and its GPU-seconds by the pricing that it began with.

Pure. A cost is worked out from whole numbers whenever it is shown, exactly, and rounded once to a millionth of the
currency; costs are never added up, so nothing drifts. A price is the decimal that its manifest has.
"""

from fractions import Fraction

from nightshift_crds.models import Cost, Pricing, TokenUsage

_MILLION = 1_000_000
_HOUR_S = 3_600


def cost_of(pricing: Pricing, usage: TokenUsage | None, gpu_seconds: int | None) -> Cost:
    """Work out the cost of tokens and GPU-seconds; half a millionth goes to the even one."""
    tokens = usage or TokenUsage()
    micros = (
        _price(pricing.per_million_input_tokens) * tokens.input_tokens
        + _price(pricing.per_million_output_tokens) * tokens.output_tokens
        + _price(pricing.per_gpu_hour) * (gpu_seconds or 0) * _MILLION / _HOUR_S
    )
    return Cost(currency=pricing.currency, total="{}.{:06d}".format(*divmod(round(micros), _MILLION)))


def cost_per_million(cost: Cost, usage: TokenUsage | None) -> float | None:
    """Spread a cost over a million of all its tokens; None if there are none."""
    tokens = usage.total_tokens if usage else 0
    return float(round(Fraction(cost.total) * _MILLION / tokens, 6)) if tokens else None


def _price(price: float) -> Fraction:
    """Read a price as the decimal that was written, not as the binary fraction beside it."""
    return Fraction(str(price))
