'use strict'
// A small application under PM2: what it is told to sell over HTTP, it says to PM2's agent.
const http = require('http')
const io = require('@pm2/io')

http.createServer((request, response) => {
  const asked = new URL(request.url, 'http://shop').searchParams
  for (let n = Number(asked.get('from')); n < Number(asked.get('until')); n++) {
    io.emit(asked.get('name'), { n, item: 'Türklinke', price: 12.5, parts: ['a', { b: null }] })
  }
  io.notifyError(new Error('an exception is no event'))
  response.end()
}).listen(Number(process.env.SHOP_PORT), '127.0.0.1')
