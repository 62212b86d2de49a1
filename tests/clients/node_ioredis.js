#!/usr/bin/env node
// ioredis against a server (it speaks RESP2 only; node_redis.js covers RESP3 from Node).
//
//     node_ioredis.js HOST PORT [PASSWORD]
//
// Touches only keys that begin with `smoke:io:`. Prints the checks that fail, then one line
// `N passed, N failed`; the exit code is 1 if any failed.
'use strict';

const Redis = require('ioredis');
const { Checks, ALL_BYTES, MEGABYTE, sleep } = require('./checks.js');

const [host, port, password] = process.argv.slice(2);
const options = { host, port: Number(port), password, keyPrefix: 'smoke:io:', retryStrategy: null };
const check = new Checks('ioredis');

async function strings(redis) {
  check.equal('PING', await redis.ping(), 'PONG');
  check.equal('SET', await redis.set('a', '1'), 'OK');
  check.equal('GET', await redis.get('a'), '1');
  check.equal('GET of an absent key', await redis.get('absent'), null);
  check.equal('SET NX on an existing key', await redis.set('a', '2', 'NX'), null);
  check.equal('SET GET', await redis.set('a', '3', 'GET'), '1');
  check.equal('INCR', await redis.incr('a'), 4);
  check.equal('INCRBY', await redis.incrby('a', 38), 42);
  check.equal('INCRBYFLOAT', await redis.incrbyfloat('a', '0.5'), '42.5');
  check.equal('APPEND', await redis.append('a', 'x'), 5);
  check.equal('GETRANGE', await redis.getrange('a', -2, -1), '5x');
  check.equal('MSET of an object', await redis.mset({ m1: '1', m2: '2' }), 'OK');
  check.equal('MGET', await redis.mget('m1', 'absent', 'm2'), ['1', null, '2']);
  check.equal('MSETNX with one taken', await redis.msetnx('m2', '9', 'm3', '9'), 0);
  check.equal('TYPE', await redis.type('m1'), 'string');
  check.equal('DEL', await redis.del('m1', 'm2', 'absent'), 2);
  check.equal('GETDEL', await redis.getdel('a'), '42.5x');
}

async function values(redis) {
  await redis.set('bin', ALL_BYTES);
  check.equal('a value of all 256 bytes', await redis.getBuffer('bin'), ALL_BYTES);
  await redis.set('crlf', 'a\r\n$5\r\n-ERR\r\n');
  check.equal('a value like the protocol', await redis.get('crlf'), 'a\r\n$5\r\n-ERR\r\n');
  await redis.set('utf8', 'zażółć 🐎');
  check.equal('UTF-8', await redis.get('utf8'), 'zażółć 🐎');
  check.equal('STRLEN counts bytes', await redis.strlen('utf8'), 15);
  await redis.set('empty', '');
  check.equal('an empty value', await redis.get('empty'), '');
  await redis.set('big', MEGABYTE);
  check.that('a value of 1 MiB', MEGABYTE.equals(await redis.getBuffer('big')));
}

async function expiry(redis) {
  await redis.set('t', 'v', 'EX', 100);
  const left = await redis.ttl('t');
  check.that('TTL after EX', left >= 99 && left <= 100, left);
  check.equal('EXPIRE', await redis.expire('t', 50), 1);
  check.equal('PERSIST', await redis.persist('t'), 1);
  check.equal('TTL without one', await redis.ttl('t'), -1);
  check.equal('TTL of an absent key', await redis.ttl('absent'), -2);
  check.equal('SETEX', await redis.setex('t', 10, 'w'), 'OK');
  check.equal('PSETEX', await redis.psetex('t', 40, 'w'), 'OK');
  await sleep(80);
  check.equal('GET after it has passed', await redis.get('t'), null);
}

async function pipelines(redis) {
  const pipeline = redis.pipeline();
  const want = [];
  for (let index = 0; index < 500; index += 1) {
    pipeline.set(`p${index}`, index).get(`p${index}`);
    want.push([null, 'OK'], [null, String(index)]);
  }
  check.equal('1000 commands, replies in order', await pipeline.exec(), want);
  const mixed = await redis.pipeline().set('p0', 'text').incr('p0').get('p0').exec();
  check.equal('an error keeps its place', mixed[1][0].message,
    'ERR value is not an integer or out of range');
  check.equal('and the next reply follows', mixed[2], [null, 'text']);
  const gets = Array.from({ length: 499 }, (_, index) => redis.get(`p${index + 1}`));
  check.equal('499 GETs at once', await Promise.all(gets),
    Array.from({ length: 499 }, (_, index) => String(index + 1)));
  const automatic = redis.duplicate({ enableAutoPipelining: true });
  const counters = await Promise.all(Array.from({ length: 200 }, () => automatic.incr('auto')));
  check.equal('200 INCRs, automatically pipelined', counters,
    Array.from({ length: 200 }, (_, index) => index + 1));
  automatic.disconnect();
}

async function transactions(redis) {
  const replies = await redis.multi().set('x', 1).incr('x').get('x').exec();
  check.equal('MULTI/EXEC', replies, [[null, 'OK'], [null, 2], [null, '2']]);
  const other = redis.duplicate();
  await redis.watch('x');
  check.equal('WATCH, untouched', await redis.multi().incr('x').exec(), [[null, 3]]);
  await redis.watch('x');
  await other.set('x', 'stolen');
  check.equal('WATCH, touched', await redis.multi().set('x', 'mine').exec(), null);
  check.equal('and nothing was written', await redis.get('x'), 'stolen');
  await redis.watch('x');
  await redis.unwatch();
  await other.set('x', 'again');
  check.equal('UNWATCH', await redis.multi().get('x').exec(), [[null, 'again']]);
  await check.rejects('a bad command within MULTI',
    'EXECABORT Transaction discarded because of previous errors.',
    redis.multi().set('x').exec());
  check.equal('a transaction without a pipeline', await redis.multi({ pipeline: false }), 'OK');
  check.equal('QUEUED', await redis.get('x'), 'QUEUED');
  check.equal('DISCARD', await redis.discard(), 'OK');
  other.disconnect();
}

async function scanning(redis) {
  const wanted = Array.from({ length: 300 }, (_, index) => `smoke:io:scan:${index}`);
  await redis.mset(wanted.flatMap((name) => [name.slice('smoke:io:'.length), 'v']));
  const found = new Set();
  for await (const keys of redis.scanStream({ match: 'smoke:io:scan:*', count: 50 })) {
    keys.forEach((key) => found.add(key));
  }
  check.equal('SCAN MATCH finds all', [...found].sort(), wanted.sort());
  check.that('DBSIZE', (await redis.dbsize()) >= 300);
}

async function introspection(redis) {
  check.equal('CLIENT SETNAME', await redis.client('SETNAME', 'smoke-io'), 'OK');
  check.equal('CLIENT GETNAME', await redis.client('GETNAME'), 'smoke-io');
  check.that('CLIENT LIST', (await redis.client('LIST')).includes('name=smoke-io'));
  check.that('CLIENT INFO', (await redis.client('INFO')).includes(' name=smoke-io '));
  const info = await redis.info();
  check.that('INFO: redis_version', /^redis_version:7\./m.test(info));
  check.that('INFO: every line is a section, a field or empty',
    info.split('\r\n').every((line) => /^(#.*|[a-z0-9_.-]+:.*|)$/i.test(line)));
  check.that('INFO memory', /^used_memory:\d+\r$/m.test(await redis.info('memory')));
  const command = (await redis.command('INFO', 'get'))[0];
  check.equal('COMMAND INFO: name, arity', command.slice(0, 2), ['get', 2]);
  check.equal('COMMAND INFO: key positions', command.slice(3, 6), [1, 1, 1]);
  check.equal('COMMAND GETKEYS', await redis.command('GETKEYS', 'MSET', 'a', '1', 'b', '2'),
    ['a', 'b']);
  check.equal('CONFIG GET', (await redis.config('GET', 'maxmemory'))[0], 'maxmemory');
}

async function errors(redis) {
  await redis.set('text', 'abc');
  await check.rejects('INCR of text', 'ERR value is not an integer or out of range',
    redis.incr('text'));
  await check.rejects('wrong arity', "ERR wrong number of arguments for 'echo' command",
    redis.call('ECHO'));
  await check.rejects('an unknown command',
    "ERR unknown command 'NOSUCH', with args beginning with: 'a' 'b' ",
    redis.call('NOSUCH', 'a', 'b'));
  await check.rejects('SET EX 0', "ERR invalid expire time in 'set' command",
    redis.set('a', 'v', 'EX', 0));
  await check.rejects('SET with nonsense', 'ERR syntax error', redis.set('a', 'v', 'NONSENSE'));
  await check.rejects('SELECT out of range', 'ERR DB index is out of range', redis.select(100000));
  check.equal('the connection is still good', await redis.ping(), 'PONG');
}

async function authentication() {
  const quiet = { host, port: Number(port), retryStrategy: null, enableReadyCheck: false };
  const nobody = new Redis(quiet);
  nobody.on('error', () => {});
  await check.rejects('no password', 'NOAUTH Authentication required.', nobody.get('a'));
  const wrong = 'WRONGPASS invalid username-password pair or user is disabled.';
  await check.rejects('a wrong password', wrong, nobody.auth('wrong'));
  check.equal('the right one', await nobody.auth(password), 'OK');
  nobody.disconnect();
}

async function removeKeys(redis) {
  for await (const keys of redis.scanStream({ match: 'smoke:io:*', count: 1000 })) {
    if (keys.length > 0) {
      await redis.del(keys.map((key) => key.slice('smoke:io:'.length)));
    }
  }
}

async function main() {
  const redis = new Redis(options);
  redis.on('error', (error) => check.that('no connection error', false, error.message));
  await removeKeys(redis);
  const sections = { strings, values, expiry, pipelines, transactions, scanning, introspection,
    errors };
  for (const [name, body] of Object.entries(sections)) {
    await check.run(name, () => body(redis));
  }
  if (password) {
    await check.run('authentication', authentication);
  }
  await removeKeys(redis);
  check.equal('QUIT', await redis.quit(), 'OK');
}

check.run('main', main).then(() => check.finish());
