"""Grey JPEG pictures made of flat blocks of 8 by 8 (ITU-T T.81, baseline): each block is its mean and nothing else."""

import struct

#: The table for differences of means, as in K.3.1: how many codes have each length, and what they stand for.
LENGTHS = bytes([0, 1, 5, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0])
SIZES = bytes(range(12))
#: What follows a mean: one code, of one bit, for "nothing more".
NOTHING_MORE = bytes([1] + [0] * 15) + b"\0"
#: A mean is an eighth of the first coefficient: quantised by 8, a step of it is one step of grey.
QUANTISED_BY = bytes([8] * 64)


def codes():
    table, code, at = {}, 0, 0
    for length, count in enumerate(LENGTHS, 1):
        for _ in range(count):
            table[SIZES[at]] = (code, length)
            code, at = code + 1, at + 1
        code <<= 1
    return table


CODES = codes()


def segment(marker, content):
    return b"\xff" + bytes([marker]) + struct.pack(">H", len(content) + 2) + content


def encode(rows):
    """A picture of `rows` of greys from 0 to 255, each a block."""
    bits, before = [], 128
    for row in rows:
        for grey in row:
            difference, before = grey - before, grey
            size = abs(difference).bit_length()
            code, length = CODES[size]
            bits.append(format(code, "0%db" % length))
            if size:
                bits.append(format(difference if difference > 0 else difference + (1 << size) - 1, "0%db" % size))
            bits.append("0")
    line = "".join(bits)
    line += "1" * (-len(line) % 8)
    scan = int(line, 2).to_bytes(len(line) // 8, "big").replace(b"\xff", b"\xff\0")
    height, width = len(rows) * 8, len(rows[0]) * 8
    return b"".join((
        b"\xff\xd8",
        segment(0xE0, b"JFIF\0\1\1\0\0\1\0\1\0\0"),
        segment(0xDB, b"\0" + QUANTISED_BY),
        segment(0xC0, struct.pack(">BHHB", 8, height, width, 1) + b"\1\x11\0"),
        segment(0xC4, b"\0" + LENGTHS + SIZES + b"\x10" + NOTHING_MORE),
        segment(0xDA, b"\1\1\0\0\x3f\0"),
        scan,
        b"\xff\xd9",
    ))
