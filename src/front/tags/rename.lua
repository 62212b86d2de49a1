-- RENAME, RENAMENX, COPY: the tags go along. KEYS: from, to. ARGV: the command, its options.
local from, to = KEYS[1], KEYS[2]
local reply = redis.pcall(ARGV[1], from, to, unpack(ARGV, 2))
if type(reply) == 'table' and reply.err then return reply end
if reply == 0 or from == to then return reply end
untag(to)
local tags = redis.call('HGETALL', record(from))
for at = 1, #tags, 2 do give(to, tags[at], tags[at + 1]) end
if string.upper(ARGV[1]) ~= 'COPY' then untag(from) end
return reply
