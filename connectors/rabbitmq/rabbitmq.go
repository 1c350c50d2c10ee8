// Package rabbitmq reads queues of RabbitMQ and publishes to its exchanges, by
// AMQP 0-9-1. It is tested with RabbitMQ 3.10.
//
// # The source
//
// A message is acknowledged after the hub's transaction with its record is
// committed, and only then. The broker keeps what is not acknowledged, and
// hands it out again when a connection, a broker or the hub ends. The IDs of
// messages are committed with the records, so that one that comes again
// within dedup_window is not written again; a message without an ID is: at
// most prefetch messages for each time that a connection or the hub ends.
//
// Delivery tags belong to their channel. A reader has one channel and ends
// with it; the runtime opens another, with pauses that grow. A position is the
// number of the channel's first message plus the tag, so a tag of an earlier
// channel is recognised and not used. Acknowledgements name the highest tag
// that is committed and include all before it.
//
// A queue is in order in its topic as far as the records' keys send its
// messages to one partition: while nothing else takes from the queue, what was
// not acknowledged comes again at the place that it had. A reader therefore waits
// for two seconds at most until nobody consumes the queue any more. The end of the
// connection gives it back; a cancel or a nack before that would not: after
// either, quorum queues hand out what follows first.
//
// A message that a quorum queue has handed out more than max_redeliveries
// times goes to the dead letters and is acknowledged. Each lost connection
// counts for what was handed out by it. A message that was handed out twice
// before (once, with max_redeliveries of 1) is therefore read alone, with none
// after it on the way: one that ends its reader, or the whole hub, each time does
// not use up the patience of others, and goes to the dead letters alone. What a
// quorum queue gets back a second time it puts behind what it got back before, so
// the one is handed out after those that were suspected with it, and those stay
// in their order.
//
// Streams have a source of their own, rabbitmq-stream: a stream keeps what was
// read, so the checkpoint is its offset, and each message is in its topic once.
// Offsets have no gaps; where the retention has dropped what was not read, the
// job stops and says so. A reader asks for the last message that was read once
// more, and stops when another is there: the stream was deleted and made anew. One
// that has not so many messages yet is tried again, and the job is stuck.
//
// # The sink
//
// A batch is published over one channel and is done when the broker has
// confirmed each message or returned it. What it returns, for no queue takes
// it, is confirmed too; it is recognised by its message-id and goes to the dead
// letters. What it refuses (nack: a full queue) or does not confirm in time is
// sent again, in order, within the same batch; a connection that was lost is
// made again for that. What is confirmed is not sent again as long as the
// writer lives. A writer that comes after a killed one sends the whole batch
// again, with the same message-ids: topic-partition-offset.
//
// The broker blocks publishers when its memory or disk runs out
// (connection.blocked): nothing is sent then, and the topic is not read.
//
// A write goes on for as long as that takes: each wait is told to the runtime
// (connectors.TaskContext.Note), which shows it and, after two minutes without a
// confirm, calls the job stuck. One that never ends is a quorum queue without a
// leader. A broker of one node comes to that when it is killed within a second
// after the queue was declared: Ra, its Raft library, writes the name of the
// queue's folder to disk half a second later (names.dets, auto_save; seen with
// RabbitMQ 3.10.8, and the same in Ra's code of July 2026). The broker then starts
// the queue's only member with an empty folder, as a follower who never stands for
// election, and what it had confirmed is in the old folder. The sink leaves a
// quorum queue that it has declared alone for three seconds. Nothing but deleting
// the queue mends one that was lost so.
//
// What makes a broker close the channel is found before the first message of a
// batch is sent: names and headers that are too long, an expiration that is no
// number, a CC header that is no list. What it finds all the same (a message
// that is too large) is found by sending one at a time.
//
// # Headers
//
// Headers of a message are headers of its record, and its properties are headers
// whose names begin with "amqp.". A text is its bytes. What has another type is
// readable text, and the header amqp.types says what it was, as JSON: t is a
// bool, b and B whole numbers of 8 bits, s and u of 16, I and i of 32, l of 64
// (the second unsigned), f and d floats, D a decimal, T a time in seconds since
// the Unix epoch, x bytes, V nothing, a list an array and an object a table. A
// header whose own name begins with "amqp." comes after "amqp.header.". The
// sink makes the same table of them. amqp.exchange, amqp.routing-key,
// amqp.redelivered, amqp.delivery-mode and x-delivery-count tell of one
// delivery and are not sent on. amqp.message-id and amqp.user-id are sent as
// headers: the sink has a message-id of its own, and the broker takes no user
// but the one of the connection.
//
// Goroutines: the driver has some for each connection and consumer, and a reader
// has one that buffers what comes; they end with the connection, which Close of
// the reader or writer ends and awaits. A
// timer or the end of a context cuts a connection whose broker does not answer.
package rabbitmq
