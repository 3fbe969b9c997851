#!/usr/bin/env python3
"""Writes NormalizationData.bin, the tables behind UnicodeNormalizer.cs, from Python's unicodedata.

    python3 make_normalization_data.py NormalizationData.bin

The data's Unicode version is that of the Python that ran this (the committed file: Python 3.11, Unicode 14.0.0).
All numbers are unsigned LEB128; code points are ascending and stored as differences. Sections:
  canonical       count, then (code point, length, code points): full canonical decompositions, without Hangul
  compatibility   the same for full compatibility decompositions, where they differ from the canonical ones
  classes         count, then (code point, length of the run, combining class)
  compositions    count, then (composite's code point, first, second)
"""
import sys
import unicodedata


def leb(value):
    out = bytearray()
    while True:
        out.append(value & 0x7F | (0x80 if value > 0x7F else 0))
        value >>= 7
        if not value:
            return bytes(out)


def section(entries):
    """entries: ascending (code point, [numbers])."""
    out = bytearray(leb(len(entries)))
    last = 0
    for code_point, numbers in entries:
        out += leb(code_point - last)
        last = code_point
        for number in numbers:
            out += leb(number)
    return bytes(out)


canonical, compatibility, classes, compositions = [], [], [], []
for cp in range(0x110000):
    if 0xD800 <= cp < 0xE000 or 0xAC00 <= cp < 0xD7A4:
        continue
    c = chr(cp)
    nfd, nfkd = unicodedata.normalize("NFD", c), unicodedata.normalize("NFKD", c)
    if nfd != c:
        canonical.append((cp, [len(nfd), *map(ord, nfd)]))
        single = unicodedata.decomposition(c).split()
        if len(single) == 2:
            pair = [int(x, 16) for x in single]
            if unicodedata.normalize("NFC", "".join(map(chr, pair))) == c:
                compositions.append((cp, pair))
    if nfkd != nfd:
        compatibility.append((cp, [len(nfkd), *map(ord, nfkd)]))
    ccc = unicodedata.combining(c)
    if ccc:
        if classes and classes[-1][0] + classes[-1][1][0] == cp and classes[-1][1][1] == ccc:
            classes[-1][1][0] += 1
        else:
            classes.append((cp, [1, ccc]))

with open(sys.argv[1], "wb") as file:
    for entries in (canonical, compatibility, classes, compositions):
        file.write(section(entries))
print(unicodedata.unidata_version, len(canonical), len(compatibility), len(classes), len(compositions))
