#!/usr/bin/env node
// node-redis against a server, RESP2 and RESP3.
//
//     node_redis.js HOST PORT [PASSWORD]
//
// Touches only keys that begin with `smoke:nr:`. Prints the checks that fail, then one line
// `N passed, N failed`; the exit code is 1 if any failed.
'use strict';

const { createClient, RESP_TYPES, WatchError } = require('redis');
const { Checks, ALL_BYTES, MEGABYTE, sleep } = require('./checks.js');

const [host, port, password] = process.argv.slice(2);
const check = new Checks('node-redis');
const key = (name) => `smoke:nr:${name}`;

async function connect(RESP) {
  const socket = { host, port: Number(port), reconnectStrategy: false };
  const redis = createClient({ socket, password, RESP });
  redis.on('error', (error) => check.that('no connection error', false, error.message));
  return redis.connect();
}

async function strings(redis) {
  check.equal('PING', await redis.ping(), 'PONG');
  check.equal('SET', await redis.set(key('a'), '1'), 'OK');
  check.equal('GET', await redis.get(key('a')), '1');
  check.equal('GET of an absent key', await redis.get(key('absent')), null);
  check.equal('INCRBY', await redis.incrBy(key('a'), 41), 42);
  check.equal('MSET', await redis.mSet({ [key('m1')]: '1', [key('m2')]: '2' }), 'OK');
  check.equal('MGET', await redis.mGet([key('m1'), key('absent'), key('m2')]), ['1', null, '2']);
  check.equal('SETNX', await redis.setNX(key('m1'), '9'), 0);
  check.equal('DEL', await redis.del([key('m1'), key('m2')]), 2);
  const buffers = redis.withTypeMapping({ [RESP_TYPES.BLOB_STRING]: Buffer });
  await redis.set(key('bin'), ALL_BYTES);
  check.equal('a value of all 256 bytes', await buffers.get(key('bin')), ALL_BYTES);
  await redis.set(key('big'), MEGABYTE);
  check.that('a value of 1 MiB', MEGABYTE.equals(await buffers.get(key('big'))));
}

async function expiry(redis) {
  await redis.set(key('t'), 'v', { expiration: { type: 'EX', value: 100 } });
  const left = await redis.ttl(key('t'));
  check.that('TTL after EX', left >= 99 && left <= 100, left);
  check.equal('PERSIST', await redis.persist(key('t')), 1);
  check.equal('PEXPIRE', await redis.pExpire(key('t'), 40), 1);
  await sleep(80);
  check.equal('GET after it has passed', await redis.get(key('t')), null);
}

async function pipelines(redis) {
  const sets = Array.from({ length: 1000 }, (_, index) => redis.set(key(`p${index}`), `${index}`));
  check.equal('1000 SETs at once', new Set(await Promise.all(sets)), new Set(['OK']));
  const gets = Array.from({ length: 1000 }, (_, index) => redis.get(key(`p${index}`)));
  check.equal('1000 GETs at once, in order', await Promise.all(gets),
    Array.from({ length: 1000 }, (_, index) => String(index)));
}

async function transactions(redis) {
  const replies = await redis.multi().set(key('x'), '1').incr(key('x')).get(key('x')).exec();
  check.equal('MULTI/EXEC', replies, ['OK', 2, '2']);
  const other = await redis.duplicate().connect();
  await redis.watch(key('x'));
  await other.set(key('x'), 'stolen');
  try {
    await redis.multi().set(key('x'), 'mine').exec();
    check.that('WATCH, touched', false, 'no error');
  } catch (error) {
    check.that('WATCH, touched', error instanceof WatchError, error.message);
  }
  check.equal('and nothing was written', await redis.get(key('x')), 'stolen');
  other.destroy();
}

async function introspection(redis, RESP) {
  check.equal('CLIENT SETNAME', await redis.clientSetName('smoke-nr'), 'OK');
  const info = await redis.clientInfo();
  check.equal('CLIENT INFO: name', info.name, 'smoke-nr');
  check.equal('CLIENT INFO: resp', info.resp ?? RESP, RESP);
  check.that('CLIENT LIST', (await redis.clientList()).some(({ name }) => name === 'smoke-nr'));
  check.that('INFO', /^redis_version:7\./m.test(await redis.info('server')));
  const config = await redis.configGet('maxmemory');
  check.that('CONFIG GET', /^\d+$/.test(config.maxmemory), config.maxmemory);
  const hello = await redis.hello();
  check.equal('HELLO: proto', hello.proto, RESP);
  check.equal('HELLO: server', hello.server, 'redis');
  const found = new Set();
  for await (const keys of redis.scanIterator({ MATCH: key('p*'), COUNT: 100 })) {
    keys.forEach((name) => found.add(name));
  }
  check.equal('SCAN', found.size, 1000);
}

async function errors(redis) {
  await redis.set(key('text'), 'abc');
  await check.rejects('INCR of text', 'ERR value is not an integer or out of range',
    redis.incr(key('text')));
  await check.rejects('an unknown command',
    "ERR unknown command 'NOSUCH', with args beginning with: 'a' ",
    redis.sendCommand(['NOSUCH', 'a']));
  await check.rejects('an unknown subcommand', "ERR unknown subcommand 'NOSUCH'. Try CONFIG HELP.",
    redis.sendCommand(['CONFIG', 'NOSUCH']));
  check.equal('the connection is still good', await redis.ping(), 'PONG');
}

async function removeKeys(redis) {
  for await (const keys of redis.scanIterator({ MATCH: key('*'), COUNT: 1000 })) {
    if (keys.length > 0) {
      await redis.del(keys);
    }
  }
}

async function main() {
  for (const RESP of [2, 3]) {
    const redis = await connect(RESP);
    await removeKeys(redis);
    const sections = { strings, expiry, pipelines, transactions, introspection, errors };
    for (const [name, body] of Object.entries(sections)) {
      await check.run(`RESP${RESP} ${name}`, () => body(redis, RESP));
    }
    await removeKeys(redis);
    await redis.close();
  }
}

check.run('main', main).then(() => check.finish());
