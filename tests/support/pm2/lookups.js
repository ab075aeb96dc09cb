'use strict'
// Before PM2's agent connects anew, it looks this name up, to see whether there is an internet. The tests have none.
const dns = require('dns')
const lookup = dns.lookup

dns.lookup = (name, ...others) => {
  if (name !== 'google.com') return lookup(name, ...others)
  process.nextTick(others.at(-1), null, '127.0.0.1', 4)
}
