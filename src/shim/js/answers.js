// Responses built from replicas.

import { Date, TextDecoder, TextEncoder, Uint8Array, attempt, mayBeAnswered } from './native.js';
import { isProven } from './identity.js';

/**
 * Returns the response from `poll`'s replica to a request with these headers, if it would be equivalent to a genuine
 * one.
 */
export function answerOf(poll, headers, run) {
    if (!poll || poll.tick || !poll.live || !poll.replica || !poll.served || navigator.onLine === false || !mayBeAnswered() || !isProven(poll)) {
        return undefined;
    }
    const { replica } = poll;
    if (/(^|,)\s*\*\s*(,|$)/.test(replica.headers.vary)) {
        // The response depends on unknown factors (RFC 9110 section 12.5.5).
        return undefined;
    }
    if (run && poll.given !== replica.version) {
        run.seen.news = true;
    }
    poll.given = replica.version;
    const known = [replica.headers.etag, `"${replica.version}"`].map(opaque);
    // A date cannot distinguish two states within one second, so a request with a date alone gets the whole body.
    const unchanged = tagsOf(headers['if-none-match']).some((tag) => tag === '*' || known.includes(opaque(tag)));
    return new Answer(replica, unchanged, poll.served);
}

/** Splits a list of entity tags (RFC 9110 section 8.8.3). A quoted tag may contain commas. */
const tagsOf = (list) => list?.match(/(?:W\/)?"[^"]*"|[^\s,]+/g) ?? [];

/** Returns a tag without its weak prefix. */
const opaque = (tag) => tag?.replace(/^W\//, '');

export const NO_BODY = [204, 205, 304];

export class Answer {
    /**
     * `served` describes how the application answered the page before.
     *
     * @param {any} replica
     * @param {boolean} [unchanged]
     * @param {{ statusText?: string, ahead?: any, isSized?: boolean }} [served]
     */
    constructor(replica, unchanged, { statusText, ahead, isSized } = {}) {
        this.replica = replica;
        this.status = unchanged ? 304 : replica.status;
        this.statusText = { 200: statusText ?? 'OK', 204: 'No Content', 304: 'Not Modified' }[this.status] ?? '';
        this.hasBody = !NO_BODY.includes(this.status);
        this.headers = { ...replica.headers };
        if (ahead < Infinity) {
            this.headers.date = new Date(Date.now() + ahead).toUTCString();
        }
        /** The value of `Content-Length`, if the response has one. */
        this.total = this.hasBody && isSized ? this.bytes().length : undefined;
        if (this.total !== undefined) {
            this.headers['content-length'] = String(this.total);
        }
    }

    get type() {
        return this.replica.type;
    }

    get charset() {
        return /charset\s*=\s*"?([^\s";]+)/i.exec(this.type)?.[1];
    }

    bytes() {
        const { body, encoding } = this.replica;
        if (!this.hasBody) {
            return new Uint8Array();
        }
        return encoding === 'base64' ? Uint8Array.from(atob(body), (c) => c.charCodeAt(0)) : new TextEncoder().encode(body);
    }

    /** Returns the text. `otherwise` is the encoding to assume if the bytes do not declare one. */
    text(otherwise) {
        const { body, encoding } = this.replica;
        if (!this.hasBody) {
            return '';
        }
        if (encoding !== 'base64') {
            return body;
        }
        const bytes = this.bytes();
        // A byte order mark takes precedence over any declaration.
        const mark = { '254,255': 'utf-16be', '255,254': 'utf-16le', '239,187': 'utf-8' }[bytes.subarray(0, 2)];
        return attempt(() => new TextDecoder(mark ?? this.charset ?? otherwise), () => new TextDecoder()).decode(bytes);
    }
}
