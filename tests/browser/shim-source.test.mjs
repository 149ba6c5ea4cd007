// The sources of the browser script, as the type checker and the linter see them.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

import { ESLint } from 'eslint';

const run = promisify(execFile);
const folder = fileURLToPath(new URL('.', import.meta.url));

test('the type checker finds nothing', async () => {
    const { code = 0, stdout } = await run(`${folder}/node_modules/.bin/tsc`, ['--project', `${folder}/tsconfig.json`]).catch((error) => error);
    assert.equal(code, 0, stdout);
});

test('the linter finds nothing', async () => {
    const linter = new ESLint({ cwd: fileURLToPath(new URL('../../', import.meta.url)), overrideConfigFile: `${folder}/eslint.config.mjs` });
    const results = await linter.lintFiles(['src/shim/js/*.js']);
    assert.ok(results.length > 10);
    const formatter = await linter.loadFormatter('stylish');
    assert.equal(await formatter.format(results), '');
});
