-- A command that overwrites or removes its one key, which leaves its tags by it. KEYS: the key, what
-- is kept of its tags. ARGV: '1' if it is written only if it is absent; the words of the command.
local had = redis.call('EXISTS', KEYS[1]) == 1
local reply = redis.pcall(unpack(ARGV, 2))
if type(reply) == 'table' and reply.err then return reply end
if ARGV[1] ~= '1' or not had then redis.call('DEL', KEYS[2]) end
return reply
