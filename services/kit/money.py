"""Money as integer minor units and a currency: exact in every database, and cheap to add up.

Nothing is rounded. An amount with more digits than its currency has, and a currency that is not in
ISO 4217, are errors, because guessing either would change what a provider said.
"""

from decimal import Decimal
from typing import Final

MAX_MINOR: Final = 2**63 - 1
"""Largest absolute number of minor units that the databases' 64-bit columns hold."""

# ISO 4217, list one (currencies and funds in use), column "minor unit", by number of digits.
_BY_DIGITS: Final = {
    0: "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF",
    2: (
        "AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BGN BMD BND BOB BRL BSD BTN BWP BYN BZD "
        "CAD CDF CHF CNY COP CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP "
        "GMD GTQ GYD HKD HNL HTG HUF IDR ILS INR IRR JMD KES KGS KHR KPW KYD KZT LAK LBP LKR LRD "
        "LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MYR MZN NAD NGN NIO NOK NPR NZD PAB "
        "PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC "
        "SYP SZL THB TJS TMT TOP TRY TTD TWD TZS UAH USD UYU UZS VES WST XCD YER ZAR ZMW ZWG"
    ),
    3: "BHD IQD JOD KWD LYD OMR TND",
    4: "CLF UYW",
}
_DIGITS: Final = {
    currency: digits for digits, names in _BY_DIGITS.items() for currency in names.split()
}

_POWERS: Final = (1, 10, 100, 1_000, 10_000)


class MoneyError(ValueError):
    """An amount that cannot be kept exactly."""


class UnknownCurrencyError(MoneyError):
    """A currency that is not in ISO 4217."""


def digits(currency: str) -> int:
    """Return how many decimal digits a currency has.

    Args:
        currency: ISO 4217 code in capitals, e.g. "CNY".

    Raises:
        UnknownCurrencyError: the code is not in use.
    """
    try:
        return _DIGITS[currency]
    except KeyError:
        raise UnknownCurrencyError(
            "the currency is not an ISO 4217 code in use: send three capitals, such as CNY"
        ) from None


def to_minor(amount: Decimal, currency: str) -> int:
    """Return an amount in minor units (fen for CNY).

    Args:
        amount: in major units (yuan for CNY).
        currency: ISO 4217 code.

    Raises:
        UnknownCurrencyError: the code is not in use.
        MoneyError: not a finite number, finer than the currency's minor unit, or beyond 64 bits.
    """
    places = digits(currency)
    if not amount.is_finite():
        raise MoneyError("the amount is not a finite number")
    if amount.adjusted() + places > 18:
        raise MoneyError("the amount is too large: it has more than 64 bits of minor units")
    finer = f"the amount is finer than the currency allows: {currency} has {places} decimals"
    if not amount:
        return 0
    if amount.adjusted() + places < 0:
        raise MoneyError(finer)
    numerator, denominator = amount.as_integer_ratio()
    minor, rest = divmod(numerator * _POWERS[places], denominator)
    if rest:
        raise MoneyError(finer)
    if abs(minor) > MAX_MINOR:
        raise MoneyError("the amount is too large: it has more than 64 bits of minor units")
    return minor


def from_minor(minor: int, currency: str) -> Decimal:
    """Return an amount in major units, with exactly the currency's number of decimals.

    Args:
        minor: in minor units (fen for CNY).
        currency: ISO 4217 code.

    Raises:
        UnknownCurrencyError: the code is not in use.
        MoneyError: more minor units than 64 bits hold.
    """
    if abs(minor) > MAX_MINOR:
        raise MoneyError("the amount is too large: it has more than 64 bits of minor units")
    return Decimal(minor).scaleb(-digits(currency))
