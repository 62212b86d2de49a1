-- A command that overwrites or removes its keys, which leave their tags by it. KEYS: they. ARGV: '1'
-- if only those are written that are absent; the words of the command.
local had = {}
for at, key in ipairs(KEYS) do had[at] = redis.call('EXISTS', key) == 1 end
local reply = redis.pcall(unpack(ARGV, 2))
if type(reply) == 'table' and reply.err then return reply end
if ARGV[1] == '1' and reply == 0 then return reply end
for at, key in ipairs(KEYS) do
    if ARGV[1] ~= '1' or not had[at] then untag(key) end
end
return reply
