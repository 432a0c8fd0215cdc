"""Codes of sale conditions other than Finnhub's ids, each as the id of the same name.

SIP letters as the CTA's and the UTP plan's specifications list them; Polygon's numbers as its
glossary does. The rules of the ids are in `model/conditions.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Final


class ConditionCodes(str, Enum):
    """In which codes a tape's conditions are."""

    FINNHUB = "finnhub"
    SIP = "sip"
    CTA = "cta"
    UTP = "utp"
    POLYGON = "polygon"


SIP_LETTERS: Final[Mapping[str, str]] = {
    "@": "1",  # regular
    "A": "2",  # acquisition
    "B": "4",  # bunched; on the CTA's tape an average price
    "C": "5",  # cash
    "D": "6",  # distribution
    "E": "7",  # automatic execution
    "F": "8",  # intermarket sweep
    "G": "9",  # bunched sold
    "H": "10",  # price variation
    "I": "12",  # odd lot
    "K": "14",  # rule 155
    "L": "15",  # sold last
    "M": "16",  # market centre's official close
    "N": "17",  # next day
    "O": "19",  # opening prints
    "P": "21",  # prior reference price
    "Q": "20",  # market centre's official open
    "R": "22",  # seller
    "S": "23",  # split
    "T": "24",  # form T
    "U": "25",  # extended hours, out of sequence
    "V": "26",  # contingent
    "W": "3",  # average price
    "X": "28",  # cross
    "Y": "29",  # yellow flag
    "Z": "30",  # sold, out of sequence
    "1": "31",  # stopped
    "4": "32",  # derivatively priced
    "5": "34",  # reopening prints
    "6": "36",  # closing prints
    "7": "37",  # qualified contingent
    "8": "38",  # placeholder
    "9": "39",  # corrected consolidated close
}
CTA_LETTERS: Final[Mapping[str, str]] = {**SIP_LETTERS, "B": "3"}
AMBIGUOUS: Final = "B"
"""The letter that means one thing on the CTA's tape and another on UTP's."""

POLYGON_NUMBERS: Final[Mapping[str, str]] = {
    "0": "1",  # regular
    "1": "2",  # acquisition
    "2": "3",  # average price
    "3": "7",  # automatic execution
    "4": "4",  # bunched
    "5": "9",  # bunched sold
    "6": "11",  # CAP election
    "7": "5",  # cash
    "8": "36",  # closing prints
    "9": "28",  # cross
    "10": "32",  # derivatively priced
    "11": "6",  # distribution
    "12": "24",  # form T
    "13": "25",  # extended hours, out of sequence
    "14": "8",  # intermarket sweep
    "15": "16",  # market centre's official close
    "16": "20",  # market centre's official open
    "17": "18",  # market centre's opening trade
    "18": "33",  # market centre's reopening trade
    "19": "35",  # market centre's closing trade
    "20": "17",  # next day
    "21": "10",  # price variation
    "22": "21",  # prior reference price
    "23": "14",  # rule 155
    "24": "13",  # rule 127
    "25": "19",  # opening prints
    "26": "40",  # opened
    "27": "31",  # stopped
    "28": "34",  # reopening prints
    "29": "22",  # seller
    "30": "15",  # sold last
    "33": "30",  # sold, out of sequence
    "34": "23",  # split
    "35": "27",  # stock option
    "36": "29",  # yellow flag
    "37": "12",  # odd lot
    "38": "39",  # corrected consolidated close
    "41": "41",  # trade-through exempt
    "52": "26",  # contingent
    "53": "37",  # qualified contingent
    "59": "38",  # placeholder
}
