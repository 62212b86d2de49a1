-- Takes back what was invalidated while it was being stored. KEYS: the key, what is kept of its
-- tags. ARGV: a tag of it, and the number it was stored with.
if redis.call('HGET', KEYS[2], ARGV[1]) == ARGV[2] then
    return redis.call('UNLINK', KEYS[1], KEYS[2])
end
return 0
