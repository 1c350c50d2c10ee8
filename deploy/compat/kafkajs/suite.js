// Uses a broker with kafkajs as applications do.
//
// Usage: node suite.js BOOTSTRAP COUNT
// COUNT is the number of records that the checks move.
const { Kafka, logLevel, CompressionTypes, ConfigResourceTypes } = require('kafkajs')
const { assert, check, runAll } = require('./tap.js')

const [bootstrap, countText] = process.argv.slice(2)
const count = Number(countText)
const run = Math.random().toString(16).slice(2, 10)
const kafka = new Kafka({ clientId: 'compat', brokers: [bootstrap], logLevel: logLevel.NOTHING })
const admin = kafka.admin()

let topics = 0
async function topic(name, configEntries = []) {
  name = `kafkajs-${run}-${++topics}-${name}`
  await admin.createTopics({ topics: [{ topic: name, numPartitions: 3, replicationFactor: 1, configEntries }] })
  return name
}

const values = (n, prefix = 'v') => Array.from({ length: n }, (_, i) => ({ key: `k${i % 17}`, value: `${prefix}${i}`, headers: { n: String(i) } }))

async function produce(name, messages, config = {}, send = {}) {
  const producer = kafka.producer(config)
  await producer.connect()
  for (let i = 0; i < messages.length; i += 500) {
    await producer.send({ topic: name, messages: messages.slice(i, i + 500), ...send })
  }
  await producer.disconnect()
}

// collect starts a consumer that calls take with each value.
async function collect(groupId, name, take, config = {}) {
  const consumer = kafka.consumer({ groupId, sessionTimeout: 10000, ...config })
  await consumer.connect()
  await consumer.subscribe({ topic: name, fromBeginning: true })
  await consumer.run({ eachMessage: async ({ partition, message }) => take(message.value.toString(), partition, message) })
  return consumer
}

async function until(what, condition, seconds = 60) {
  for (const end = Date.now() + seconds * 1000; !(await condition());) {
    if (Date.now() > end) assert.fail(`${what}: not within ${seconds} s`)
    await new Promise(r => setTimeout(r, 50))
  }
}

// readAll reads want records and sees that no more come.
async function readAll(name, want, config) {
  const got = []
  const consumer = await collect(`${name}-${Math.random()}`, name, v => got.push(v), config)
  await until(`${want} records, so far ${got.length}`, () => got.length >= want)
  await new Promise(r => setTimeout(r, 500))
  await consumer.disconnect()
  assert.strictEqual(got.length, want)
  return got
}

check('produce and read all back, plain and gzip, idempotent and not', async () => {
  const name = await topic('plain')
  await produce(name, values(count / 2, 'plain'))
  await produce(name, values(count / 2, 'gzip'), { idempotent: true, maxInFlightRequests: 1 }, { compression: CompressionTypes.GZIP, acks: -1 })
  assert.strictEqual(new Set(await readAll(name, count)).size, count)
})

check('null keys and values, headers', async () => {
  const name = await topic('shapes')
  await produce(name, [{ key: null, value: null, partition: 0 }, { key: 'k', value: '', headers: { a: '1', b: ['2', '3'] }, partition: 0 }])
  const got = []
  const consumer = kafka.consumer({ groupId: `${name}-g` })
  await consumer.connect()
  await consumer.subscribe({ topic: name, fromBeginning: true })
  await consumer.run({ eachMessage: async ({ message }) => got.push(message) })
  await until('two records', () => got.length === 2)
  await consumer.disconnect()
  assert.strictEqual(got[0].value, null)
  assert.strictEqual(got[1].value.length, 0)
  assert.deepStrictEqual([String(got[1].headers.a), got[1].headers.b.map(String)], ['1', ['2', '3']])
})

check('a group: the second consumer goes on where the first committed', async () => {
  const name = await topic('goes-on')
  await produce(name, values(count))
  const got = []
  const first = await collect(`${name}-g`, name, v => got.push(v))
  await until('records of the first', () => got.length > count / 4)
  await first.disconnect() // commits what was processed
  const before = got.length
  const second = await collect(`${name}-g`, name, v => got.push(v))
  await until(`all records, ${before} of them by the first`, () => got.length >= count)
  await second.disconnect()
  assert.strictEqual(got.length, count)
  assert.strictEqual(new Set(got).size, count)
})

check('a group: members come and go, nothing is lost', async () => {
  const name = await topic('shared')
  const seen = new Set()
  const members = [await collect(`${name}-g`, name, v => seen.add(v)), await collect(`${name}-g`, name, v => seen.add(v))]
  await produce(name, values(count / 2, 'a'))
  const third = await collect(`${name}-g`, name, v => seen.add(v))
  await produce(name, values(count / 2, 'b'))
  await third.disconnect()
  await until('all records', () => seen.size === count)
  for (const m of members) await m.disconnect()
})

check('transactions: aborted records are not read', async () => {
  const name = await topic('transactions')
  const producer = kafka.producer({ transactionalId: `${name}-t`, maxInFlightRequests: 1, idempotent: true })
  await producer.connect()
  for (const good of [true, false, true]) {
    const transaction = await producer.transaction()
    await transaction.send({ topic: name, messages: values(100, good ? 'good' : 'bad') })
    await (good ? transaction.commit() : transaction.abort())
  }
  await producer.disconnect()
  const got = await readAll(name, 200)
  assert.ok(got.every(v => v.startsWith('good')))
  assert.strictEqual((await readAll(name, 300, { readUncommitted: true })).length, 300)
})

check('transactions: offsets are committed with the records', async () => {
  const [source, target] = [await topic('ctp-in'), await topic('ctp-out')]
  const groupId = `${source}-g`
  await produce(source, values(500))
  const producer = kafka.producer({ transactionalId: `${groupId}-t`, maxInFlightRequests: 1, idempotent: true })
  const consumer = kafka.consumer({ groupId, sessionTimeout: 10000 })
  await Promise.all([producer.connect(), consumer.connect()])
  await consumer.subscribe({ topic: source, fromBeginning: true })
  let moved = 0
  await consumer.run({
    autoCommit: false,
    eachBatch: async ({ batch }) => {
      const transaction = await producer.transaction()
      await transaction.send({ topic: target, messages: batch.messages.map(m => ({ value: m.value })) })
      await transaction.sendOffsets({ consumerGroupId: groupId, topics: [{ topic: batch.topic, partitions: [{ partition: batch.partition, offset: String(Number(batch.lastOffset()) + 1) }] }] })
      await transaction.commit()
      moved += batch.messages.length
    }
  })
  await until('all records', () => moved >= 500)
  await Promise.all([producer.disconnect(), consumer.disconnect()])
  const offsets = await admin.fetchOffsets({ groupId, topics: [source] })
  assert.strictEqual(offsets[0].partitions.reduce((sum, p) => sum + Number(p.offset), 0), 500)
  assert.strictEqual(new Set(await readAll(target, 500)).size, 500)
})

check('admin: topics, settings, partitions, offsets, groups', async () => {
  const name = await topic('admin', [{ name: 'retention.ms', value: '3600000' }])
  assert.ok((await admin.listTopics()).includes(name))
  const { resources } = await admin.describeConfigs({ resources: [{ type: ConfigResourceTypes.TOPIC, name, configNames: ['retention.ms'] }] })
  assert.strictEqual(resources[0].configEntries[0].configValue, '3600000')
  await admin.createPartitions({ topicPartitions: [{ topic: name, count: 5 }] })
  await until('five partitions', async () => (await admin.fetchTopicMetadata({ topics: [name] })).topics[0].partitions.length === 5)
  await produce(name, values(50))
  assert.strictEqual((await admin.fetchTopicOffsets(name)).reduce((n, p) => n + Number(p.high), 0), 50)
  const groupId = `${name}-g`
  const seen = []
  const consumer = await collect(groupId, name, v => seen.push(v))
  await until('fifty records', () => seen.length === 50)
  const { groups } = await admin.describeGroups([groupId])
  assert.deepStrictEqual([groups[0].state, groups[0].members.length], ['Stable', 1])
  await consumer.disconnect()
  assert.ok((await admin.listGroups()).groups.some(g => g.groupId === groupId))
  await admin.resetOffsets({ groupId, topic: name, earliest: true })
  await admin.deleteGroups([groupId])
  assert.ok(!(await admin.listGroups()).groups.some(g => g.groupId === groupId))
  await admin.deleteTopics({ topics: [name] })
  assert.ok(!(await admin.listTopics()).includes(name))
})

async function main() {
  await admin.connect()
  await runAll()
  await admin.disconnect()
}

main()
