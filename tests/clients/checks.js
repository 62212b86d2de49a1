// Counts what held and prints what did not; shared by the Node scripts.
'use strict';

const util = require('node:util');

class Checks {
  constructor(client) {
    this.client = client;
    this.passed = 0;
    this.failed = 0;
  }

  that(what, holds, detail = '') {
    if (holds) {
      this.passed += 1;
    } else {
      this.failed += 1;
      console.log(`FAIL ${this.client}: ${what} ${detail}`);
    }
  }

  equal(what, got, want) {
    const same = util.isDeepStrictEqual(got, want);
    const short = (value) => util.inspect(value, { breakLength: Infinity }).slice(0, 200);
    this.that(what, same, same ? '' : `got ${short(got)}, want ${short(want)}`);
  }

  // `text` is the whole message with its code, as the server sent it.
  async rejects(what, text, promise) {
    try {
      const got = await promise;
      this.that(what, false, `no error, got ${util.inspect(got).slice(0, 200)}`);
    } catch (error) {
      this.equal(what, error.message, text);
    }
  }

  // One section; an unexpected exception is one failed check, not the end of the run.
  async run(section, body) {
    try {
      await body();
    } catch (error) {
      this.that(`${section}: ran to its end`, false, error.stack);
    }
  }

  // Prints the closing line and leaves, even when a client would keep the process alive.
  finish() {
    console.log(`${this.client}: ${this.passed} passed, ${this.failed} failed`);
    process.exit(this.failed === 0 ? 0 : 1);
  }
}

const ALL_BYTES = Buffer.from(Array.from({ length: 256 }, (_, index) => index));
const MEGABYTE = Buffer.alloc(1 << 20, ALL_BYTES);

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

module.exports = { Checks, ALL_BYTES, MEGABYTE, sleep };
