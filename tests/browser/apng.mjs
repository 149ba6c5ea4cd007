// An animated PNG made of screenshots. Of each frame after the first there is only the rectangle in which it differs from the
// one before, and in that what is the same is transparent.

import { deflateSync, inflateSync } from 'node:zlib';

const SIGNATURE = Buffer.from([137, 80, 78, 71, 13, 10, 26, 10]);
const RGBA = 4;

/** The samples of an 8-bit PNG without alpha, not interlaced (PNG, third edition, clauses 7 and 9). */
function decode(png) {
    const parts = [];
    let width;
    let height;
    let channels;
    for (let at = SIGNATURE.length; at < png.length; ) {
        const length = png.readUInt32BE(at);
        const type = png.toString('latin1', at + 4, at + 8);
        const data = png.subarray(at + 8, at + 8 + length);
        if (type === 'IHDR') {
            [width, height] = [data.readUInt32BE(0), data.readUInt32BE(4)];
            channels = { 2: 3, 6: 4 }[data[9]];
            if (data[8] !== 8 || !channels || data[12] !== 0) {
                throw new Error('not the kind of PNG that a browser makes of a page');
            }
        } else if (type === 'IDAT') {
            parts.push(data);
        }
        at += length + 12;
    }
    const lines = inflateSync(Buffer.concat(parts));
    const stride = width * channels;
    const pixels = Buffer.alloc(width * height * RGBA, 255);
    let above = Buffer.alloc(stride);
    for (let y = 0; y < height; y += 1) {
        const filter = lines[y * (stride + 1)];
        const line = lines.subarray(y * (stride + 1) + 1, (y + 1) * (stride + 1));
        for (let x = 0; x < stride; x += 1) {
            const left = x < channels ? 0 : line[x - channels];
            const corner = x < channels ? 0 : above[x - channels];
            line[x] += predict(filter, left, above[x], corner);
        }
        for (let x = 0; x < width; x += 1) {
            line.copy(pixels, (y * width + x) * RGBA, x * channels, x * channels + 3);
        }
        above = line;
    }
    return { width, height, pixels };
}

function predict(filter, left, up, corner) {
    switch (filter) {
        case 1:
            return left;
        case 2:
            return up;
        case 3:
            return (left + up) >> 1;
        case 4: {
            const [a, b, c] = [left, up, corner].map((near) => Math.abs(left + up - corner - near));
            return a <= b && a <= c ? left : b <= c ? up : corner;
        }
        default:
            return 0;
    }
}

function crc(bytes) {
    let sum = ~0;
    for (const byte of bytes) {
        sum ^= byte;
        for (let bit = 0; bit < 8; bit += 1) {
            sum = (sum >>> 1) ^ (sum & 1 ? 0xedb88320 : 0);
        }
    }
    return ~sum >>> 0;
}

function chunk(type, ...data) {
    const body = Buffer.concat([Buffer.from(type, 'latin1'), ...data]);
    const [length, sum] = [Buffer.alloc(4), Buffer.alloc(4)];
    length.writeUInt32BE(body.length - 4);
    sum.writeUInt32BE(crc(body));
    return Buffer.concat([length, body, sum]);
}

function numbers(...values) {
    const bytes = Buffer.alloc(values.length * 4);
    values.forEach((value, index) => bytes.writeUInt32BE(value, index * 4));
    return bytes;
}

/** Where two pictures of one size differ, if they do. */
function difference(before, after) {
    const { width, height } = after;
    const stride = width * RGBA;
    let [top, bottom, left, right] = [height, -1, stride, -1];
    for (let y = 0; y < height; y += 1) {
        const [a, b] = [before, after].map(({ pixels }) => pixels.subarray(y * stride, (y + 1) * stride));
        if (a.equals(b)) {
            continue;
        }
        [top, bottom] = [Math.min(top, y), y];
        left = Math.min(left, a.findIndex((sample, x) => sample !== b[x]));
        right = Math.max(right, a.findLastIndex((sample, x) => sample !== b[x]));
    }
    const [x, end] = [Math.floor(left / RGBA), Math.floor(right / RGBA)];
    return bottom < 0 ? undefined : { x, y: top, width: end - x + 1, height: bottom - top + 1 };
}

/** The samples of a part of a picture, compressed; those that are as `before`, transparent. */
function encode({ width, pixels }, part, before) {
    const lines = [];
    for (let y = part.y; y < part.y + part.height; y += 1) {
        const [from, to] = [part.x, part.x + part.width].map((x) => (y * width + x) * RGBA);
        const line = Buffer.from(pixels.subarray(from, to));
        for (let at = 0; before && at < line.length; at += RGBA) {
            if (line.readUInt32LE(at) === before.pixels.readUInt32LE(from + at)) {
                line.writeUInt32LE(0, at);
            }
        }
        // Unfiltered: pages are flat, and repeat themselves.
        lines.push(Buffer.from([0]), line);
    }
    return deflateSync(Buffer.concat(lines), { level: 9 });
}

/** The frames of `shots`, with those that show nothing new joined to the one before. */
function framesOf(shots) {
    const frames = [];
    for (const { png, time } of shots) {
        const [picture, before] = [decode(png), frames.at(-1)?.picture];
        const part = before ? difference(before, picture) : { x: 0, y: 0, width: picture.width, height: picture.height };
        if (part) {
            frames.push({ picture, part, time, data: encode(picture, part, before) });
        } else {
            frames.at(-1).time += time;
        }
    }
    return frames;
}

/** `shots` are PNGs of one size, each with how long it is shown, in milliseconds. It is played again and again. */
export function animate(shots) {
    const frames = framesOf(shots);
    const { width, height } = frames[0].picture;
    const chunks = [
        chunk('IHDR', numbers(width, height), Buffer.from([8, 6, 0, 0, 0])),
        chunk('acTL', numbers(frames.length, 0)),
    ];
    let sequence = 0;
    frames.forEach(({ part, time, data }, index) => {
        // Milliseconds; left as it is, and drawn over what is there.
        const timing = Buffer.alloc(6);
        timing.writeUInt16BE(Math.round(time), 0);
        timing.writeUInt16BE(1000, 2);
        timing[5] = index > 0 ? 1 : 0;
        chunks.push(chunk('fcTL', numbers(sequence++, part.width, part.height, part.x, part.y), timing));
        chunks.push(index === 0 ? chunk('IDAT', data) : chunk('fdAT', numbers(sequence++), data));
    });
    return Buffer.concat([SIGNATURE, ...chunks, chunk('IEND')]);
}
