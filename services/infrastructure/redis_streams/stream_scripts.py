"""The Lua scripts of the streams, each of which is one transaction.

Scripts delete before they write: a script that has begun to write continues when the server is full, so that a full
intake can be emptied.
"""

END_ENTRIES = """
local ended = 0
for n = 4, #ARGV, 5 do
    local id, result, accepted, dead = ARGV[n], cjson.decode(ARGV[n + 1]), ARGV[n + 2], ARGV[n + 3]
    redis.call('XACK', KEYS[1], ARGV[1], id)
    redis.call('HDEL', KEYS[5], ARGV[3] .. ':' .. id)
    if redis.call('XDEL', KEYS[1], id) == 1 then
        ended = ended + 1
        if accepted ~= '' then redis.call('HSET', KEYS[4], id, accepted) end
        if dead ~= '' then
            redis.call('XADD', KEYS[3], '*', 'event', ARGV[n + 4], unpack(cjson.decode(dead)))
        end
        redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[2], '*', unpack(result))
    end
end
return ended
"""
RESOLVE_ACCEPTED = """
local settled = 0
for n = 2, #ARGV, 2 do
    if redis.call('HDEL', KEYS[2], ARGV[n]) == 1 then
        settled = settled + 1
        redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[1], '*', unpack(cjson.decode(ARGV[n + 1])))
    end
end
return settled
"""
COUNT_ATTEMPT = """
redis.call('XDEL', KEYS[1], '0-0')
return redis.call('HINCRBY', KEYS[2], ARGV[1], 1)
"""
CREATE_GROUP = """
redis.call('XDEL', KEYS[1], '0-0')
return redis.call('XGROUP', 'CREATE', KEYS[1], ARGV[1], '0', 'MKSTREAM')
"""
REPLAY_DEAD_LETTER = """
local found = redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[1])
if #found == 0 then return false end
local letter = {event = '', original = '', inbox = ''}
for n = 1, #found[1][2], 2 do letter[found[1][2][n]] = found[1][2][n + 1] end
local key = letter.inbox == ARGV[2] and KEYS[3] or KEYS[2]
local entry = redis.pcall('XADD', key, '*', 'event', letter.event, 'original', letter.original)
if type(entry) == 'table' then
    if string.find(entry.err, 'OOM', 1, true) then return redis.error_reply('OOM the server is full') end
    return entry
end
redis.call('XDEL', KEYS[1], ARGV[1])
return entry
"""
