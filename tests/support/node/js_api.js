// Drives @pm2/js-api, unchanged, against a running stack, and prints one line of JSON for each call.
//
// Its one argument is JSON: {api, gateway, refresh_token, bucket_id, ingest_key, others: {member, heir}}. It prints
// {"call", "status", "data"} for each call of the library, {"step": …} for what it did itself, and {"live": …} for
// each event that came over the library's realtime connection.
'use strict'

const path = require('path')
const root = process.env.NODE_FOLDER
const Client = require(path.join(root, 'node_modules', '@pm2', 'js-api'))

const given = JSON.parse(process.argv[2])
const PATIENCE_MS = 40000

function print (line) {
  process.stdout.write(JSON.stringify(line) + '\n')
}

async function call (name, promise) {
  let answer
  try {
    answer = await promise
  } catch (error) {
    answer = error.response || error
    if (!answer.status) answer = { status: 0, data: String(error && error.stack || error) }
  }
  print({ call: name, status: answer.status, data: answer.data })
  return answer.data
}

// The gateway is not the client's business: events come in by plain HTTP.
async function send (events) {
  const answer = await fetch(given.gateway + '/v1/events', {
    method: 'POST',
    headers: { 'X-Api-Key': given.ingest_key, 'Content-Type': 'application/json' },
    body: JSON.stringify(events)
  })
  const body = await answer.json()
  print({ step: 'sent', status: answer.status, accepted_at: Date.now(), accepted: body.accepted })
  return body.receipt
}

// A step of the test's: it is done when a line comes in.
function asked (step) {
  const done = new Promise(resolve => process.stdin.once('data', resolve))
  print({ step })
  return done
}

const sleep = ms => new Promise(resolve => setTimeout(resolve, ms))

async function until (what, holds) {
  const end = Date.now() + PATIENCE_MS
  while (!(await holds())) {
    if (Date.now() > end) throw new Error(`waited in vain for ${what}`)
    await sleep(20)
  }
}

async function buckets (io) {
  const bucket = io.bucket
  await call('bucket.retrieveAll', bucket.retrieveAll())
  const made = (await call('bucket.create', bucket.create({ name: 'by the client', comment: 'first' }))).bucket
  const id = made._id
  await call('bucket.retrieve', bucket.retrieve(id))
  await call('bucket.update', bucket.update(id, { name: 'renamed', configuration: { colour: 'blue' } }))
  await call('bucket.currentRole', bucket.currentRole(id))
  await call('bucket.inviteUser', bucket.inviteUser(id, { email: 'nobody.yet@example.com' }))
  await call('bucket.inviteUser', bucket.inviteUser(id, { email: given.others.member }))
  await call('bucket.retrieveUsers', bucket.retrieveUsers(id))
  await call('bucket.removeInvitation', bucket.removeInvitation(id, 'nobody.yet@example.com'))
  await call('bucket.setUserRole', bucket.setUserRole(id, { email: given.others.member, role: 'admin' }))
  await call('bucket.setNotificationState',
    bucket.setNotificationState(id, { email: given.others.member, state: 'none' }))
  await call('bucket.removeUser', bucket.removeUser(id, { email: given.others.member }))
  await call('bucket.sendFeedback', bucket.sendFeedback(id, { feedback: 'it flows' }))
  await call('bucket.updateUserOptions', bucket.updateUserOptions(id, { options: { order: 'newest' } }))
  await call('bucket.retrieveServers', bucket.retrieveServers(given.bucket_id))
  await call('bucket.upgrade', bucket.upgrade(id, { plan: 'team' }))
  await call('bucket.claimTrial', bucket.claimTrial(id))
  await call('bucket.upgrade (paid)', bucket.upgrade(id, { plan: 'pro' }))
  await call('bucket.inviteUser', bucket.inviteUser(id, { email: given.others.heir }))
  await call('bucket.transferOwnership', bucket.transferOwnership(id, { new_owner: given.others.heir }))
  await call('bucket.destroy (no longer the owner)', bucket.destroy(id))
  const second = (await call('bucket.create', bucket.create({ name: 'to be destroyed' }))).bucket
  await call('bucket.destroy', bucket.destroy(second._id))
  await call('bucket.retrieve (destroyed)', bucket.retrieve(second._id))
}

async function events (io) {
  const events = io.data.events
  await until('the events', async () => {
    const found = await events.retrieve(given.bucket_id, { event_name: 'door_opened' })
    return found.data.length === 3
  })
  await call('data.events.retrieve', events.retrieve(given.bucket_id, { event_name: 'door_opened', limit: 2 }))
  await call('data.events.retrieveMetadatas', events.retrieveMetadatas(given.bucket_id))
  await call('data.events.retrieveHistogram',
    events.retrieveHistogram(given.bucket_id, { event_name: 'door_opened', days: 1, interval: 'hour' }))
  await call('data.events.deleteAll', events.deleteAll(given.bucket_id))
  await call('data.events.retrieve (deleted)', events.retrieve(given.bucket_id, { event_name: 'door_opened' }))
}

async function live (io, publicId) {
  const seen = []
  let connections = 0
  io.realtime.on(`${publicId}:connected`, () => { connections += 1 })
  io.realtime.on(`${publicId}:hall:human:event`, event => {
    seen.push(event)
    print({ live: event, received_at: Date.now() })
  })
  await io.realtime.subscribe(given.bucket_id)
  print({ step: 'subscribed' })
  await sleep(300)
  await send([1, 2, 3].map(n => ({ name: 'door_opened', app: 'doors', server: 'hall', data: { n } })))
  await until('three live events', () => seen.length === 3)
  return { seen, connected: () => connections }
}

async function main () {
  const io = new Client({ services: { API: given.api, OAUTH: given.api }, OAUTH_CLIENT_ID: '795984050' })
  io.use('standalone', { refresh_token: given.refresh_token, client_id: '795984050' })
  const own = await call('bucket.retrieve', io.bucket.retrieve(given.bucket_id))
  const feed = await live(io, own.public_id)
  await events(io)
  // The next call is answered by 401, and the library gets another access token.
  await asked('expire the token')
  await buckets(io)
  // Without a call in between, it connects again with the token that has expired.
  await asked('expire the token')
  const before = feed.connected()
  await asked('lose the connection')
  await until('another connection', () => feed.connected() > before)
  await sleep(300)
  await send([{ name: 'door_closed', app: 'doors', server: 'hall', data: {} }])
  await until('a live event after the loss', () => feed.seen.length === 4)
  await io.realtime.unsubscribe(given.bucket_id)
  await call('auth.revoke', io.auth.revoke())
  print({ step: 'done' })
}

setTimeout(() => { print({ step: 'timeout' }); process.exit(1) }, 90000)
main().then(() => process.exit(0), error => { print({ step: 'failed', error: String(error && error.stack || error) }); process.exit(1) })
