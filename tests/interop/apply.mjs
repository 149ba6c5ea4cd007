// Applies patches with implementations that are not Sungrazer's. Standard input: a JSON object a line, with `kind`, `base`,
// `patch` and `target`, all texts. Says how many made the target, and ends with 1 if one did not.
import { isDeepStrictEqual } from 'node:util';
import { createInterface } from 'node:readline';
import jsonPatch from 'fast-json-patch';
import mergePatch from 'json-merge-patch';

// As a page would do it: strings of JavaScript count in UTF-16 code units.
const splice = (text, patch) =>
    patch.reduce((held, [start, length, insert]) => held.slice(0, start) + insert + held.slice(start + length), text);

const apply = {
    'json-patch': (base, patch) => jsonPatch.applyPatch(JSON.parse(base), JSON.parse(patch), true).newDocument,
    'merge-patch': (base, patch) => mergePatch.apply(JSON.parse(base), JSON.parse(patch)),
    splice: (base, patch) => splice(base, JSON.parse(patch)),
};

const counts = {};
for await (const line of createInterface({ input: process.stdin })) {
    const { kind, base, patch, target } = JSON.parse(line);
    const made = apply[kind](base, patch);
    const wanted = kind === 'splice' ? target : JSON.parse(target);
    if (!isDeepStrictEqual(made, wanted)) {
        console.error(`${kind}: ${patch}\nmakes of ${base}\n${JSON.stringify(made)}\ninstead of ${target}`);
        process.exit(1);
    }
    counts[kind] = (counts[kind] ?? 0) + 1;
}
console.log(JSON.stringify(counts));
