-- For wrk: sends the checkouts of many customers in turn, from requests built in advance. Prints the figures as one line of JSON.
local requests = {}
local at = 0

function init(args)
  for token in io.lines(args[1]) do
    requests[#requests + 1] = wrk.format('POST', '/order/v1/orders/checkout', {
      ['Authorization'] = 'Bearer ' .. token,
      ['Content-Type'] = 'application/json',
    }, args[2])
  end
  at = tonumber(args[3]) or 0
end

function request()
  at = at % #requests + 1
  return requests[at]
end

function done(summary, latency, _)
  local errors = summary.errors
  io.write(string.format(
    '{"requests":%d,"seconds":%f,"p50Ms":%f,"p99Ms":%f,"notOk":%d,"broken":%d}\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    errors.status, errors.connect + errors.read + errors.write + errors.timeout))
end
