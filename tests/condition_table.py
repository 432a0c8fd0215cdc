"""What a trade may update, by each of its sale conditions.

Written out from the project's facts on Finnhub's ids (by name from the CTS and UTP
specifications): id, high/low, last (open and close), volume; X outside regular hours.
"""

from __future__ import annotations

TABLE = """
1  Y Y Y  Regular
2  Y Y Y  Acquisition
4  Y Y Y  Bunched
6  Y Y Y  Distribution
7  Y Y Y  Automatic Execution
8  Y Y Y  Intermarket Sweep
13 Y Y Y  Rule 127
14 Y Y Y  Rule 155
18 Y Y Y  MC Opening
19 Y Y Y  Opening Prints
23 Y Y Y  Split
28 Y Y Y  Cross
29 Y Y Y  Yellow Flag
31 Y Y Y  Stopped
33 Y Y Y
34 Y Y Y  Reopening
35 Y Y Y
36 Y Y Y  Closing
39 Y Y N  Corrected Consolidated Close
41 Y Y Y  Trade-Through Exempt
15 Y Y Y  Sold Last
9  Y N Y  Bunched Sold
21 Y N Y  Prior Reference
30 Y N Y  Sold Out of Sequence
32 Y N Y  Derivatively Priced
3  N N Y  Average Price
5  N N Y  Cash
10 N N Y  Price Variation
12 N N Y  Odd Lot
22 N N Y  Seller
26 N N Y  Contingent
37 N N Y  Qualified Contingent
17 N N Y  Next Day
11 N N Y  CAP Election
27 N N Y  Stock Option
38 N N Y  placeholder
40 N N Y  Opened
24 X X Y  Form T
25 X X Y  Extended Hours Out of Sequence
16 N N N  MC Official Close
20 N N N  MC Official Open
"""
ROWS = [tuple(line.split()[:4]) for line in TABLE.strip().splitlines()]
